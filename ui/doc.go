// Package ui serves a live web page of a client's database (runs, queues, limits, schedules,
// events, failures) and a JSON API for the same.
//
//	mux.Handle("/stint/", ui.Handler(client, ui.WithBasePath("/stint"), ui.WithToken(token)))
//
// It is one http.Handler, whose assets are embedded in the binary. It refuses every request
// until WithAuthorize, WithToken or WithLocalAccess says who has access.
package ui
