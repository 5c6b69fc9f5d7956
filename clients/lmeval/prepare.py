"""Makes what the harness needs of a GGUF file and a text: the tokenizer as Hugging
Face's, for byte-level BPE with single digits as SmolLM2 has it; the text as a data
set; and the same tokens as one window for `mneme bench --perplexity`.

    python prepare.py MODEL.gguf TEXT BYTES FOLDER
"""

import json
import pathlib
import sys

from gguf import GGUFReader
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CONTROL = 3  # a token type of GGUF


def tokenizer(path):
    field = lambda name: GGUF.get_field(f"tokenizer.ggml.{name}").contents()
    GGUF = GGUFReader(path)
    if field("model") != "gpt2" or field("pre") != "smollm":
        sys.exit(f"{path}: only SmolLM2's kind of tokenizer is made here, not {field('model')}, {field('pre')}")
    tokens = field("tokens")
    merges = [tuple(m.split(" ")) for m in field("merges")]
    made = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([t for t, kind in zip(tokens, field("token_type")) if kind == CONTROL])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token=tokens[field("bos_token_id")], eos_token=tokens[field("eos_token_id")])


def main(model, text, size, folder):
    folder = pathlib.Path(folder)
    text = pathlib.Path(text).read_bytes()[: int(size)].decode(errors="ignore")
    made = tokenizer(model)
    made.save_pretrained(folder / "tokenizer")
    window = [made.bos_token_id] + made(text, add_special_tokens=False).input_ids
    (folder / "window.json").write_text(json.dumps(window))
    (folder / "text.jsonl").write_text(json.dumps({"text": text}) + "\n")
    print(len(window))


main(*sys.argv[1:])
