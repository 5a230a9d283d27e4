// Package ui serves a live web page for what a client's database holds: runs, queues,
// limits, schedules, events, and what went wrong; and a JSON API for the same.
//
//	mux.Handle("/stint/", ui.Handler(client, ui.WithBasePath("/stint"), ui.WithToken(token)))
//
// It is one http.Handler with everything inside the binary. It refuses every
// request until WithAuthorize, WithToken or WithLocalAccess says who may come in.
package ui
