// Package imports reads the pending jobs of another queue and enqueues them in stint. The command is
// cmd/stint-import; docs/moving-in.md says how to use it. It is a module of its own, so that a program with stint links
// none of the other libraries.
package imports
