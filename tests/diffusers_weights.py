"""Small real diffusers pipelines with random weights, saved as folders: they make noise, as real ones make pictures."""
from __future__ import annotations

import contextlib
import json
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

WIDTH = 32
"""Of all vectors."""
CARD = "---\nlicense: other\nlicense_name: made-up-licence\n---\n# Noise\n"


def _tokenizer(folder: Path) -> CLIPTokenizer:
    """Knows single letters."""
    folder.mkdir(parents=True)
    letters = string.ascii_lowercase
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Of work this small, threads only wait for one another: 4.8 s for four pictures instead of 0.06 on two busy cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pipeline(folder: Path, shown: bool = False, seed: int = 0) -> str:
    """A pipeline from words, or (`shown`) from words and a picture (InstructPix2Pix); its folder."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer(folder.parent / f"{folder.name}-words")
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=1, num_attention_heads=2,
        projection_dim=WIDTH, bos_token_id=52, eos_token_id=53, pad_token_id=53))
    unet = UNet2DConditionModel(sample_size=8, in_channels=8 if shown else 4, out_channels=4, layers_per_block=1,
                                block_out_channels=(WIDTH, WIDTH), norm_num_groups=4, attention_head_dim=4,
                                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=WIDTH)
    vae = AutoencoderKL(block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=4,
                        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    kind = StableDiffusionInstructPix2PixPipeline if shown else StableDiffusionPipeline
    pipe: DiffusionPipeline = kind(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None, feature_extractor=None, image_encoder=None, requires_safety_checker=False)
    pipe.save_pretrained(str(folder))
    (folder / "README.md").write_text(CARD)
    return str(folder)


def ip_adapter(folder: Path, model: str) -> str:
    """An IP-Adapter for a pipeline from words, with its image encoder beside it; its file."""
    torch.manual_seed(0)
    config = CLIPVisionConfig(hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=1, num_attention_heads=2,
                              image_size=32, patch_size=8, projection_dim=WIDTH)
    CLIPVisionModelWithProjection(config).save_pretrained(str(folder / "image_encoder"))
    CLIPImageProcessor(size=32, crop_size=32).save_pretrained(str(folder / "image_encoder"))
    unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet")
    weights = {"image_proj.proj.weight": torch.randn(4 * WIDTH, WIDTH), "image_proj.proj.bias": torch.zeros(4 * WIDTH),
               "image_proj.norm.weight": torch.ones(WIDTH), "image_proj.norm.bias": torch.zeros(WIDTH)}
    number = 1
    for name in unet.attn_processors:
        if "attn2" in name:
            for part in ("k", "v"):
                weights[f"ip_adapter.{number}.to_{part}_ip.weight"] = torch.randn(WIDTH, WIDTH)
        if "attn2" in name:
            number += 2
    save_file(weights, str(folder / "adapter.safetensors"))
    return str(folder / "adapter.safetensors")


def noise(seed: int, width: int = 64, height: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)


def klein(folder: Path) -> str:
    """A pipeline of the default model's kind: from words, and from a list of pictures (FLUX.2 klein); its folder."""
    torch.manual_seed(0)
    words = {letter: number for number, letter in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>"])}
    bytes_ = Tokenizer(BPE(vocab=words, merges=[]))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_, pad_token="<|endoftext|>", eos_token="<|endoftext|>")
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    text = Qwen3ForCausalLM(Qwen3Config(vocab_size=len(words), hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=28,
                                        num_attention_heads=2, num_key_value_heads=2, head_dim=8))
    vae = AutoencoderKLFlux2(block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=4, layers_per_block=1)
    transformer = Flux2Transformer2DModel(in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
                                          num_attention_heads=2, joint_attention_dim=3 * WIDTH, axes_dims_rope=(4, 4, 4, 4),
                                          timestep_guidance_channels=16, guidance_embeds=False)
    Flux2KleinPipeline(scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae, text_encoder=text, tokenizer=tokenizer,
                       transformer=transformer, is_distilled=True).save_pretrained(str(folder))
    return str(folder)
