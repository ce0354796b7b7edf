// Package text turns text into token ids and back, exactly as the tokenizers that the models were trained with.
//
// It implements BPE over bytes (GPT-2, Llama-3, Qwen) and over characters, with byte fallback or without (Llama-2,
// Mistral, Gemma, InternLM2). A tokenizer comes either from a tokenizer.json (Hugging Face) or from the tokenizer.ggml.*
// metadata of a GGUF file, which has scores in place of merges where it comes from SentencePiece; New refuses, by name, every
// part of either that it would not honour exactly. Two parts of a tokenizer.json are not honoured on purpose, because no server
// wants them: truncation and padding.
//
// The way of a text through Encode:
//
//	text -> added tokens cut out (matcher) -> normalizer (rewrites) -> normalized added tokens cut out
//	     -> pre-tokenizer (splitters, marker) -> words -> merges (model) -> ids -> post-processor
//
// Offsets are followed through all of it as one alignment value per byte; see alignment.
//
// Decoding gives the text back, but for what a tokenizer that writes spaces as U+2581 cannot tell apart: that character
// comes back as a space, and where its normalizer prepends one, every part between added tokens has gained a leading
// space, of which the decoder drops the very first. An added token that matches in normalized text decodes as it stands
// there. Special ones among those are dropped with the other special tokens, although the reference since version 0.23
// keeps them where normalizing changes them.
//
// The split patterns of GPT-2, Llama-3 and Qwen2 have hand-written scanners. Any other pattern runs on a backtracking
// engine with a time limit, whose character classes are those of the Go release's Unicode version: it may cut
// characters that are younger than that otherwise than the reference does.
package text
