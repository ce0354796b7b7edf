package core

import "lockstep/protocol"

// audit compares what a group says that it holds of this router, behind a frame whose rows have been applied, with the
// ledger. The two are equal, token by token, whenever they speak of the same moment:
//
//   - A group counts a request from its first token to its last, and so does the ledger, both in the frame that brings
//     them. What runs in a group and has yielded nothing is in neither count.
//   - What the router cancels leaves the ledger at once and the group later; so only frames that come behind the last
//     cancel count, and none while a cancel waits for the answer to its request's dispatch.
//   - A request that was resumed there with output counts from its dispatch or from its first new token, as the group
//     likes; so no frame counts while one of these has yielded nothing.
//
// Probes have one token, which is their first and last, and are in no frame's count. A difference is an error in one of
// the two: each time that one begins it is counted and logged once, and it stays to be seen as the group's error.
func (f *Fleet) audit(g *group, account protocol.Account) {
	name := g.Announcement.Group
	if account.Cancels != g.cancels || len(g.late) > 0 || f.admission.Resuming(name) > 0 {
		return
	}
	ledger := f.admission.Account(name)
	ledger.Cancels = account.Cancels
	wrong := ledger != account
	if wrong && !g.wrong {
		f.totals.LedgerMismatches++
		f.actions.Log(Warn, "the ledger differs from what the group holds", "group", g.Announcement.GroupRef.String(),
			"requests", ledger.Requests, "requests_group", account.Requests, "tokens", ledger.Tokens, "tokens_group", account.Tokens)
	}
	g.wrong, g.errorTokens = wrong, max(ledger.Tokens-account.Tokens, account.Tokens-ledger.Tokens)
}
