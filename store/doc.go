// Package store is the contract between the engine and the database that keeps its
// state: the row types, the state machine, and the verbs that move a run along it.
//
// Every verb is one commit, or for verbs that may touch very many runs a sequence of
// commits each of which is a whole number of transitions. What follows from a
// transition is an argument of the verb that makes it, so no half of it is ever
// visible (R7). Verbs take slices and give one answer an item: a stale item never
// fails its neighbours, and the error is for the whole call.
//
// A store decides about time by the now it is given. Claim and Await, which wait,
// read the clock themselves, so that a test in a testing/synctest bubble owns it.
//
// The interfaces may gain methods in any minor version; package storetest is the
// definition of what they mean.
package store
