package lightllm

import (
	"context"
	"errors"

	"lockstep/protocol/guide"
	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// maxGuideBytes bounds what constrains the output, in the original's limits.
const maxGuideBytes = 2048

// intoGuide reads what constrains the output; an empty text says nothing.
func intoGuide(kind guide.Kind, what string) func(*generateBody, string, any) *request.Refusal {
	return func(b *generateBody, key string, value any) *request.Refusal {
		text, ok := value.(string)
		switch {
		case value == nil || ok && text == "":
			return nil
		case !ok:
			return badType(key, "a string")
		case len(text) >= maxGuideBytes:
			return request.Invalid("%s is too long.", what)
		}
		b.guides = append(b.guides, guide.Source{Kind: kind, Text: text})
		return nil
	}
}

// guideNames are the original's names of what constrains the output.
var guideNames = map[guide.Kind]string{guide.Regex: "regular_constraint", guide.Grammar: "guided_grammar", guide.Schema: "guided_json"}

// verifyGuides refuses several of them at once.
func (b *generateBody) verifyGuides() *request.Refusal {
	switch {
	case len(b.guides) > 1:
		return request.Invalid("%s and %s can not be used in same time", guideNames[b.guides[0].Kind], guideNames[b.guides[1].Kind])
	case len(b.guides) == 1 && len(b.sampling.AllowedTokenIDs) > 0:
		return request.Invalid("allowed_token_ids and %s can not be used in same time", guideNames[b.guides[0].Kind])
	}
	return nil
}

// guideOf compiles what constrains the output; nil: nothing does.
func (d *dialect) guideOf(ctx context.Context, model *answer.Model, b *generateBody) (*guide.Source, *request.Refusal) {
	if len(b.guides) == 0 {
		return nil, nil
	}
	source := &b.guides[0]
	if source.Kind == guide.Schema {
		source = d.answers.Guides().Schema(source.Text)
	}
	refusal, failure := d.answers.CheckGuide(ctx, model, source)
	var why *guide.Error
	switch {
	case refusal != nil:
		return nil, refusal
	case failure == nil:
		return source, nil
	case !errors.As(failure, &why):
		return nil, request.Invalid("%v", failure)
	case source.Kind == guide.Regex:
		return nil, request.Invalid("regular_expression '%s' has parse_pattern_error: %v", wire.Quoted(source.Text), failure)
	}
	return nil, request.Invalid("guided_grammar '%s' has compile_grammar_error: %v", wire.Quoted(source.Text), failure)
}
