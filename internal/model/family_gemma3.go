package model

// gemma3: five local layers to a full one, each kind with a rope base of its
// own; norms before and after attention and MLP; scaled embeddings; GELU (Gemma 3
// technical report, arXiv 2503.19786). The file's norm weights are w, not w-1.
var gemma3 = family{qkNorm: true, postNorms: true, embedScale: true, gelu: true, windows: gemma3Windows}

func gemma3Windows(c *Config, r *configReader) {
	c.FullEvery = 6
	c.Window = r.int("attention.sliding_window", 1, maxContext)
	c.RopeBaseLocal = r.float("rope.freq_base_swa", 10000)
}
