// Package backend holds the two contracts a gateway stands on and the types
// they speak of. It imports no driver and knows no wire format.
//
//   - A [Backend] carries messages and notices between gateways. It may lose
//     one, but must then say that it may have: it is the doorbell.
//   - A [Store] keeps what outlives a gateway: sessions, their inboxes,
//     subscriptions, retained messages and leases. It may refuse, but never
//     forgets what it accepted: it is the mailbox.
//
// Losing the doorbell costs latency, never a stored message.
//
// Every implementation passes the suites of package backendtest without
// exceptions; that is the definition of done.
package backend
