package main

import (
	"fmt"
	"runtime/debug"

	"github.com/rs/zerolog"

	"lockstep/launcher/demo"
	"lockstep/protocol/text"
	"lockstep/router/chat"
	"lockstep/shard/model"
)

// checkForRouters finds out whether routers will take the model that the shards serve: they build its tokenizer, and leave
// alone a group whose tokenizer they cannot build, for ever. Shards and routers do not know each other's code, so this is
// the launcher's to see. It takes as long as a tokenizer takes, while the shards load.
func (c *command) checkForRouters(log zerolog.Logger) error {
	if c.ModelID == "" || c.ModelID == demo.ModelID {
		return nil
	}
	m, err := model.OpenShape(c.ModelID)
	if err != nil {
		return nil // the shards say so
	}
	defer debug.FreeOSMemory()
	defer m.Close()
	if _, err := text.New(m.Files.Tokenizer); err != nil {
		return fmt.Errorf("--model-id %s: no router can serve it, for its tokenizer is not supported, or damaged: %w", c.ModelID, err)
	}
	if c.ChatTemplate != "" || m.Config.Reward { // an own template has been checked
		return nil
	}
	if _, err := chat.New(m.Files.Chat.Template, m.Files.Chat.SpecialTokens); err != nil {
		log.Warn().Err(err).Msg("the model's chat template cannot be used: chats are refused until --chat-template gives another one")
	} else if m.Files.Chat.Template == "" {
		log.Info().Msg("the model has no chat template: chats are refused unless --chat-template gives one")
	}
	return nil
}
