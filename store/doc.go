// Package store is the contract between the engine and the database that stores its
// state: the row types, the state machine, and the methods (verbs) that change a run's state.
//
// Every verb is one commit, or, if it may change very many runs, a sequence of commits each
// of which is a whole number of transitions. What follows from a transition is an argument of
// the verb that makes it, so no half of it is ever visible (R7). Verbs take slices and return
// one result an item: a stale item never fails the others, and the error is for the whole call.
//
// A store decides about time by the now that it is given. Claim and Await, which wait, read the
// clock themselves: the process's, so that a test in a testing/synctest bubble controls it, or that
// of the database, if the store is a Clock.
//
// The interfaces may gain methods in any minor version; package storetest defines what they mean.
package store
