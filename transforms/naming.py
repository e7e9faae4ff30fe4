def name_clusters(labels, face_ids, earlier):
    return [None if l<0 else f"id{l:06d}" for l in labels]
