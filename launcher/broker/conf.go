package broker

import (
	"encoding/json"
	"fmt"
	"strings"

	"lockstep/protocol"
)

// watcherName stands for a node in a watcher's identity: he is the same at all nodes.
const watcherName = "all"

// roles of a node's processes.
var roles = []protocol.Role{protocol.RoleGroup, protocol.RoleRouter, protocol.RoleLauncher}

// Watcher is the identity of a person who looks on.
func Watcher(key string) protocol.Identity { return Identity(key, protocol.RoleWatcher, watcherName) }

// ServerConfiguration is what a NATS server of the operator's must be configured with, in NATS' own form, to let in the
// processes of these nodes and hold each to its subjects. It holds public keys only.
func ServerConfiguration(key string, nodes []string) string {
	var b strings.Builder
	b.WriteString("authorization {\n  users: [\n")
	user := func(who string, identity protocol.Identity, granted protocol.Permissions) {
		fmt.Fprintf(&b, "    # %s\n    { nkey: %s, permissions: { publish: %s, subscribe: %s } }\n",
			who, identity.NKey, confSubjects(granted.Publish), confSubjects(granted.Subscribe))
	}
	for _, node := range nodes {
		for _, role := range roles {
			user(fmt.Sprintf("%s of %s", role, node), Identity(key, role, node), protocol.PermissionsOf(role, node))
		}
	}
	user("who looks on", Watcher(key), protocol.PermissionsOf(protocol.RoleWatcher, ""))
	b.WriteString("  ]\n}\n")
	return b.String()
}

// confSubjects allows these subjects and no others.
func confSubjects(allowed []string) string {
	if len(allowed) == 0 {
		return `{ deny: ">" }`
	}
	text, err := json.Marshal(allowed)
	if err != nil {
		panic(err) // strings
	}
	return strings.ReplaceAll(string(text), `\u003e`, ">")
}
