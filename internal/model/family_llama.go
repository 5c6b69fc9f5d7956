package model

// llama: Llama 2 and 3, SmolLM2 and what follows them (Touvron et al. 2023,
// arXiv 2302.13971).
var llama = family{ropeAdjacent: true}
