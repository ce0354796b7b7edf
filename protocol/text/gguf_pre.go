package text

import (
	"maps"
	"slices"
	"strings"
)

// ggufPre is how a value of tokenizer.ggml.pre is encoded.
type ggufPre struct {
	splits       []splitMaker // one after the other
	composes     bool
	ignoreMerges bool
	addsBOS      bool // where the file does not say
	noBOS        bool // there is no begin token where the file names none
}

type splitMaker func() (splitter, error)

// pattern is a step that splits at the matches of a regular expression, and what lies between them too.
func pattern(expression string) splitMaker {
	return func() (splitter, error) { return newSplit(expression, isolated, false) }
}

func eachDigit() (splitter, error) { return newDigits(true), nil }

// The split patterns that only GGUF's names stand for, as the tokenizer.json files of the models have them or, where those are
// written for another engine, as what they mean. Sources: those files, and llama.cpp's table of the names (src/llama-vocab.cpp).
const (
	contractions = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
	spacesTail   = `|\s*[\r\n]+|\s+(?!\S)|\s+`
	// cased is a word of o200k_base: capitals, then small letters; either may be lacking, but not both.
	casedUpper    = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`
	casedLower    = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*`
	tekkenPattern = casedUpper + `|` + casedLower + `|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*` + spacesTail
	gpt4oPattern  = casedUpper + contractions + `?|` + casedLower + contractions + `?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*` + spacesTail
	qwen35Pattern = contractions + `|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*` + spacesTail
	seedPattern   = contractions + `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+` + spacesTail
	bailingRest   = `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+`
	exaoneMoe     = contractions + `|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?` +
		`|\s*[\r\n]|\s+(?!\S)|\s+`
	jais2Pattern = contractions + `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+` +
		`|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}`
	minicpm5Pattern = contractions + `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*` + spacesTail
	bloomPattern    = " ?[^(\\s|.,!?\u2026\u3002\uFF0C\u3001\u0964\u06D4\u060C)]+"
	falconMarks     = "[\\p{P}\\$\\+<=>\\^~\\|`]+"

	deepseekHan    = "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+"
	deepseekMarks  = "\\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+"
	deepseekLetter = "\\s?[A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF" +
		"\u0370-\u0373\u0376\u0377" +
		"\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1\u03A3-\u03F5\u03F7-\u0481\u048A-\u052F\u0531-\u0556\u10A0-" +
		"\u10C5\u13A0-\u13F5\u13F8-\u13FD\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77\u1D79-\u1D9A\u1E00-\u1F15\u1F18-" +
		"\u1F1D\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D\u1F80-\u1FB4\u1FB6-\u1FBC\u1FBE\u1FC2-" +
		"\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC\u1FF2-\u1FF4\u1FF6-\u1FFC\u2102\u2107\u210A-\u2113\u2115" +
		"\u2119-\u211D\u2124\u2126\u2128\u212A-\u212D\u212F-\u2134\u2139\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B" +
		"\u2C7E-\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3\uA640-\uA66D\uA680-\uA69B\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E\uAB70-\uABBF" +
		"\uFB00-\uFB06\uFB13-\uFB17\uFF21-\uFF3A\uFF41-\uFF5A\U00010400-\U0001044F\U000104B0-\U000104D3\U000104D8-\U000104FB" +
		"\U00010C80-\U00010CB2\U00010CC0-\U00010CF2\U000118A0-\U000118DF\U0001E900-\U0001E943]+"
	deepseek3Han  = "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+"
	deepseek3Rest = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+" +
		`| ?[\p{P}\p{S}]+[\r\n]*` + spacesTail
)

var (
	gpt2Splits      = []splitMaker{pattern(gpt2Pattern)}
	digitSplits     = []splitMaker{eachDigit, pattern(gpt2Pattern)}
	llama3Splits    = []splitMaker{pattern(llama3Pattern)}
	qwen2Splits     = []splitMaker{pattern(qwen2Pattern)}
	gpt4oSplits     = []splitMaker{pattern(gpt4oPattern)}
	bloomSplits     = []splitMaker{pattern(bloomPattern)}
	deepseek3Splits = []splitMaker{pattern(`\p{N}{1,3}`), pattern(deepseek3Han), pattern(deepseek3Rest)}
	bailingSplits   = []splitMaker{pattern(`'(?i:[sdmt]|ll|ve|re)` + bailingRest)}

	llama3Pre = ggufPre{splits: llama3Splits, ignoreMerges: true, addsBOS: true}
)

// ggufPres holds the pre-tokenizers that GGUF files name, as the tokenizer.json files of the same models have them.
// "default" is what files without a name get; it stands for GPT-2's. Texts of Qwen and of those that share GPT-NeoX's tokenizer are
// brought into form C, as the models were trained, although other readers of GGUF leave that out.
var ggufPres = map[string]ggufPre{
	"":        {splits: gpt2Splits},
	"default": {splits: gpt2Splits},

	"gpt-2": {splits: gpt2Splits}, "phi-2": {splits: gpt2Splits}, "jais": {splits: gpt2Splits}, "gigachat": {splits: gpt2Splits},
	"a.x-4.0": {splits: gpt2Splits}, "mellum": {splits: gpt2Splits}, "exaone4": {splits: gpt2Splits}, "trillion": {splits: gpt2Splits},
	"granite-docling": {splits: gpt2Splits},
	"mpt":             {splits: gpt2Splits, composes: true}, "olmo": {splits: gpt2Splits, composes: true},

	"smollm": {splits: digitSplits}, "starcoder": {splits: digitSplits}, "refact": {splits: digitSplits},
	"command-r": {splits: digitSplits, composes: true}, "codeshell": {splits: digitSplits}, "exaone": {splits: digitSplits},
	"minerva-7b": {splits: digitSplits}, "mellum2": {splits: digitSplits},

	"llama-bpe": llama3Pre, "llama3": llama3Pre, "llama-v3": llama3Pre, "falcon3": llama3Pre, "falcon-h1": llama3Pre,
	"pixtral": llama3Pre, "midm-2.0": llama3Pre, "lfm2": llama3Pre,
	"dbrx": {splits: llama3Splits}, "smaug-bpe": {splits: llama3Splits},
	"glm4": {splits: llama3Splits, noBOS: true}, "chatglm-bpe": {splits: llama3Splits, noBOS: true},
	"jais-2":   {splits: []splitMaker{pattern(jais2Pattern)}},
	"minicpm5": {splits: []splitMaker{pattern(`\p{N}{1,3}`), pattern(minicpm5Pattern)}, ignoreMerges: true},

	"qwen2": {splits: qwen2Splits, composes: true}, "deepseek-r1-qwen": {splits: qwen2Splits, composes: true},
	"megrez": {splits: qwen2Splits}, "stablelm2": {splits: qwen2Splits}, "hunyuan": {splits: qwen2Splits},
	"solar-open": {splits: qwen2Splits}, "grok-2": {splits: qwen2Splits}, "kormo": {splits: qwen2Splits},
	"qwen35": {splits: []splitMaker{pattern(qwen35Pattern)}, composes: true},

	"tekken": {splits: []splitMaker{pattern(tekkenPattern)}, ignoreMerges: true, addsBOS: true},
	"gpt-4o": {splits: gpt4oSplits}, "llama4": {splits: gpt4oSplits}, "kanana2": {splits: gpt4oSplits}, "minimax-m2": {splits: gpt4oSplits},

	"deepseek-llm": {splits: []splitMaker{pattern(`[\r\n]`), pattern(deepseekLetter), pattern(deepseekMarks),
		pattern(`\s+(?![\s\S])`), pattern(deepseekHan), eachDigit}},
	"deepseek-coder": {splits: []splitMaker{pattern(`[\r\n]`), pattern(`\s?\p{L}+`), pattern(`\s?\p{P}+`), pattern(deepseekHan), eachDigit}},
	"deepseek-v3":    {splits: deepseek3Splits}, "hunyuan-dense": {splits: deepseek3Splits}, "joyai-llm": {splits: deepseek3Splits},

	"falcon": {splits: []splitMaker{pattern(falconMarks), pattern(gpt2Pattern), pattern(`[0-9][0-9][0-9]`)}},
	"bloom":  {splits: bloomSplits}, "poro-chat": {splits: bloomSplits}, "gpt3-finnish": {splits: bloomSplits},
	"viking": {splits: []splitMaker{pattern(bloomPattern), eachDigit}},

	"seed-coder": {splits: []splitMaker{pattern(seedPattern)}},
	"bailingmoe": {splits: bailingSplits}, "bailingmoe2": {splits: bailingSplits}, "llada-moe": {splits: bailingSplits},
	"exaone-moe": {splits: []splitMaker{pattern(exaoneMoe)}},
}

// servedPres lists the names of ggufPres.
func servedPres() string {
	names := slices.Sorted(maps.Keys(ggufPres))
	return strings.Join(names[1:], ", ") // the first one is no name
}
