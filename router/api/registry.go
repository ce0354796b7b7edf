package api

import (
	"lockstep/router/api/answer"
	"lockstep/router/api/lightllm"
	"lockstep/router/api/mindie"
	"lockstep/router/api/openai"
	"lockstep/router/api/tgi"
	"lockstep/router/api/wire"
	"lockstep/router/openapi"
)

// registry has all dialects. A new one is a line here: flags, prefixes, detection, keys and documents follow. The order counts
// where a body speaks for several equally, and in documents; the first one's frame is that of the routes that are no dialect's.
var registry = []struct {
	name string
	make func(*parts) *wire.Dialect
}{
	{tgi.Name, func(p *parts) *wire.Dialect { return p.tgi.Dialect() }},
	{mindie.Name, func(p *parts) *wire.Dialect { return mindie.New(p.mindie(), p.answers) }},
	{lightllm.Name, func(p *parts) *wire.Dialect { return lightllm.New(p.lightllm(), p.answers) }},
	{openai.Name, func(p *parts) *wire.Dialect { return p.openai.Dialect() }},
}

// Dialects are the names that can be chosen: those of all dialects, and Auto in front of them.
var Dialects = names()

func names() []string {
	list := []string{Auto}
	for _, entry := range registry {
		list = append(list, entry.name)
	}
	return list
}

// parts are what dialects are made of. TGI and OpenAI borrow handlers from each other, which they do not know.
type parts struct {
	config  *Config
	answers *answer.Service
	tgi     *tgi.Dialect
	openai  *openai.Dialect
}

// dialects makes all dialects.
func dialects(c *Config, answers *answer.Service) (list []*wire.Dialect) {
	p := &parts{config: c, answers: answers}
	p.tgi = tgi.New(tgi.Config{Limits: c.Limits, Form: c.TGIVersion, MaxWaitingTokens: c.MaxWaitingTokens,
		WaitingServedRatio: c.WaitingServedRatio, Build: c.Build, CORSAllowOrigin: c.CORSAllowOrigin}, answers)
	lent := openai.Lent{Health: p.tgi.Health, Tokenize: p.tgi.Tokenize, CheckChat: tgi.CheckChat, RefuseBody: p.tgi.RefuseBody,
		AppendPlaces: tgi.AppendPlaces}
	p.openai = openai.New(openai.Config{Limits: c.Limits, AsTGI3: c.TGIVersion == tgi.Form3, Build: c.Build, CORS: p.tgi.CORS(),
		Lent: lent}, answers)
	p.tgi.Chats, p.tgi.Completions = p.openai.Chats, p.openai.Completions
	for _, entry := range registry {
		d := entry.make(p)
		d.Name = entry.name
		list = append(list, d)
	}
	return list
}

func (p *parts) mindie() mindie.Config {
	return mindie.Config{Version: tgi.Number(p.config.TGIVersion), MaxConcurrentRequests: p.config.MaxConcurrentRequests}
}

func (p *parts) lightllm() lightllm.Config {
	return lightllm.Config{OldErrors: p.config.OldLightLLMErrors}
}

// documented are the dialects as the documents take them.
func (s *Server) documented() (list []openapi.Part) {
	for _, f := range s.surfaces {
		list = append(list, openapi.Part{Name: f.Name, Beside: f.Beside, Spec: f.Spec})
	}
	return list
}
