package lightllm_test

import (
	"testing"

	"lockstep/router/api"
	"lockstep/router/api/answertest"
	"lockstep/router/api/lightllm"
)

func TestCases(t *testing.T) {
	t.Parallel()
	answertest.ReplayCases(t, lightllm.Name, map[string]func(*api.Config){
		"default": func(*api.Config) {},
		"key":     func(c *api.Config) { c.APIKeys = []string{"sesame"} },
		"old":     func(c *api.Config) { c.OldLightLLMErrors = true },
	})
}
