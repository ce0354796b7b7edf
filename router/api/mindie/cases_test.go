package mindie_test

import (
	"testing"

	"lockstep/router/api"
	"lockstep/router/api/answertest"
	"lockstep/router/api/mindie"
)

func TestCases(t *testing.T) {
	t.Parallel()
	answertest.ReplayCases(t, mindie.Name, map[string]func(*api.Config){
		"default": func(*api.Config) {},
		"key":     func(c *api.Config) { c.APIKeys = []string{"sesame"} },
	})
}
