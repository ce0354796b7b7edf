package protocol

import (
	"strconv"
	"strings"
)

// The subjects. A group is a ValidToken, a router a ValidRouter; the last tokens of a subject name its publisher.
const (
	root      = "lockstep."
	announces = root + "announce."
	downs     = root + "down."
	alives    = root + "alive."
	frames    = root + "frames."
	replies   = root + "reply."
	groups    = root + "group."
)

// The subjects on which all groups, all launchers and all routers are heard.
const (
	AnnounceSubjects = announces + "*"
	DownSubjects     = downs + "*"
	AliveSubjects    = alives + AnyRouter
	// AnyRouter in place of a router makes a subject on which a group hears all of them.
	AnyRouter = "*.*"
)

// AnnounceSubject is where a group announces itself, and DownSubject where its launcher tells of its end.
func AnnounceSubject(group string) string { return announces + group }
func DownSubject(group string) string     { return downs + group }

// AliveSubject is where a router gives its signs of life.
func AliveSubject(router string) string { return alives + router }

// FrameSubject is where a group sends the frames meant for one router; the router listens on FrameSubjects.
func FrameSubject(router, group string) string { return frames + router + "." + group }
func FrameSubjects(router string) string       { return frames + router + ".*" }

// ReplySubject is where a group answers a router; number tells the answers apart. The router listens on ReplySubjects. It names
// the group, so that no group can answer for another, nor be made to say anything elsewhere.
func ReplySubject(router, group string, number uint64) string {
	return replies + router + "." + strconv.FormatUint(number, 10) + "." + group
}
func ReplySubjects(router string) string { return replies + router + ".*.*" }

// ReplyNumber is the number of a ReplySubject of this router and group, or false.
func ReplyNumber(subject, router, group string) (number uint64, ok bool) {
	text, ok := strings.CutPrefix(subject, replies+router+".")
	if ok {
		text, ok = strings.CutSuffix(text, "."+group)
	}
	number, err := strconv.ParseUint(text, 10, 64)
	return number, ok && err == nil
}

// GroupRef names one incarnation of a shard group. Incarnations of a group grow with time.
type GroupRef struct {
	Group       string `json:"group"`
	Incarnation uint64 `json:"incarnation"`
}

func (g GroupRef) String() string { return g.Group + "/" + strconv.FormatUint(g.Incarnation, 10) }

func (g GroupRef) subject(verb, router string) string {
	return groups + g.Group + "." + strconv.FormatUint(g.Incarnation, 10) + "." + verb + "." + router
}

// The subjects on which this incarnation hears one router.
func (g GroupRef) Card(router string) string     { return g.subject("card", router) }
func (g GroupRef) Dispatch(router string) string { return g.subject("dispatch", router) }
func (g GroupRef) Cancel(router string) string   { return g.subject("cancel", router) }
func (g GroupRef) Replay(router string) string   { return g.subject("replay", router) }

// Sender is the group or router that a subject says to be its publisher's: with count 1 the group, with 2 the router. It
// is empty when the subject has fewer tokens.
func Sender(subject string, count int) string {
	at := len(subject)
	for range count {
		if at = strings.LastIndexByte(subject[:at], '.'); at < 0 {
			return ""
		}
	}
	return subject[at+1:]
}

// The tokens of Sender that name a group and a router.
const (
	GroupTokens  = 1
	RouterTokens = 2
)

// ValidToken reports whether a name may stand in a subject: letters, digits, '-' and '_', 1 to 64 of them.
func ValidToken(name string) bool {
	if len(name) == 0 || len(name) > 64 {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// RouterName is a router on the wire: its stable name, to which its permissions are given, and a session that no process
// had before it, since groups count their frames to each.
func RouterName(name, session string) string { return name + "." + session }

// ValidRouter reports whether a name is a RouterName of valid tokens.
func ValidRouter(name string) bool {
	stable, session, _ := strings.Cut(name, ".")
	return ValidToken(stable) && ValidToken(session)
}

// Role is who speaks.
type Role string

const (
	RoleGroup    Role = "group" // rank 0 of a shard group
	RoleRouter   Role = "router"
	RoleLauncher Role = "launcher" // tells of the end of its node's group
	RoleWatcher  Role = "watcher"  // a person who looks on
)

// Permissions are the subjects that a role may publish and subscribe to on a node, whose group and router have its name.
type Permissions struct{ Publish, Subscribe []string }

// PermissionsOf says what a role on a node needs. No role can speak for another's group or router: what a group says is
// as good as its node, and a router cannot pass for a group.
func PermissionsOf(role Role, node string) Permissions {
	router := node + ".*"
	switch role {
	case RoleGroup:
		return Permissions{Publish: []string{AnnounceSubject(node), FrameSubject(AnyRouter, node), replies + AnyRouter + ".*." + node},
			Subscribe: []string{groups + node + ".>", AliveSubjects}}
	case RoleRouter:
		return Permissions{Publish: []string{AliveSubject(router), groups + "*.*.*." + router},
			Subscribe: []string{AnnounceSubjects, DownSubjects, FrameSubjects(router), ReplySubjects(router)}}
	case RoleLauncher:
		return Permissions{Publish: []string{DownSubject(node)}}
	case RoleWatcher:
		return Permissions{Subscribe: []string{root + ">"}}
	}
	return Permissions{}
}
