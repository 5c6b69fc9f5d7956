package model

// qwen2: biases on q, k and v (Qwen2.5 technical report, arXiv 2412.15115).
var qwen2 = family{qkvBias: true}

// qwen3: no biases, q and k normed per head (Qwen3 technical report, arXiv
// 2505.09388).
var qwen3 = family{qkNorm: true}
