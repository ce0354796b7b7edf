// Package text turns text into token ids and back, exactly as the tokenizers that the models were trained with.
//
// It implements byte-level BPE. A tokenizer comes either from a tokenizer.json (Hugging Face) or from the
// tokenizer.ggml.* metadata of a GGUF file; New refuses, by name, every part of either that it would not honour
// exactly. Two parts of a tokenizer.json are not honoured on purpose, because no server wants them: truncation and
// padding.
//
// The way of a text through Encode:
//
//	text -> added tokens cut out (matcher) -> normalizer -> normalized added tokens cut out
//	     -> pre-tokenizer (splitter) -> words -> merges (model) -> ids -> post-processor
//
// Offsets are followed through all of it as one alignment value per byte; see alignment.
//
// The split patterns of GPT-2, Llama-3 and Qwen2 have hand-written scanners. Any other pattern runs on a backtracking
// engine with a time limit, whose character classes are those of the Go release's Unicode version: it may cut
// characters that are younger than that otherwise than the reference does.
package text
