// Package memory implements both roles of package backend for gateways of one
// process: [Bus] carries messages between them and [Store] keeps what outlives
// a connection. Nothing outlives the process. Neither takes a shortcut: what
// holds here holds with a server behind it, and the same suites say so.
package memory
