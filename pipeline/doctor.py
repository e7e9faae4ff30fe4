def report(output): return "x"
