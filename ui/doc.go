// Package ui serves a live web page for what a client's database holds: runs, queues,
// limits, schedules, events, and what went wrong; and a JSON API for the same.
//
//	mux.Handle("/stint/", ui.Handler(client, ui.WithBasePath("/stint")))
//
// It is one http.Handler with everything inside the binary. With no WithAuthorize it
// answers only requests that come from the machine itself.
package ui
