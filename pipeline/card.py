def card(a,b): return "x"
