// Package redis keeps sessions, inboxes, subscriptions, retained messages and
// leases in Redis, for any number of gateways: a [backend.Store] over one
// server, a Sentinel group or a cluster.
//
// Keys, with the hash tag in braces; identifiers in tags are base64url, so that
// no byte of a client's can end a tag:
//
//	{c:<client>}:m        session: epoch, gateway, expiry, will, inbox, version
//	{c:<client>}:i:<name> inbox: a list, element 0 is a header
//	{c:<client>}:s :p     subscriptions; unfinished replays
//	{c:<client>}:r:<inc>  receipts of QoS 2 publishes of one incarnation
//	{c:<client>}:d0 :d1   identities that the inbox has seen
//	{c:<client>}:k :t     chores; when they are handed out
//	{g:<gateway>}:l :o    run of a gateway; its clients with tickets
//	{nodes}               gateways by the end of their lease
//	{d:<n>}               clients by the time at which something is due
//	{s:<n>}:d :l :n       clients of the index; changes; number of the last one
//	{v}                   identity of the data; how many changes there were
//	{q:<group>}:…         members, queue and claims of a shared group
//	{queues}              groups with claims by the time at which those end
//	{b}:m :n              bans; number of the last change of them
//	{r:<n>}:m :t :e :b    retained messages of a bucket
//
// Every script touches the keys of one tag; only where there is one server are
// sessions of several clients begun, or ended, by one run of it. What spans
// several is ordered so that dying half way leaves work to be found, never work
// undone: a gateway notes a client in its own list before it changes the
// session, and who reaps the gateway looks after all that are in it.
//
// # Appending
//
// Which sessions get a message is answered by an index in memory that follows
// the changes of all gateways. It may be behind, and is checked when messages
// are stored: the transaction that appends also reads how many changes there
// were; if more than the index knows, it catches up, matches again and appends
// what was missed. The other way round, a session's inbox moves to a new name
// with every change of its subscriptions, so that an append by older knowledge
// finds no inbox and changes nothing.
//
// # Order
//
// A publisher has one Append under way, so what has to be shown is that two
// messages of one Append for one session are stored in their order, whatever
// happens meanwhile.
//
//   - In each round all messages that are open are matched by one state of the
//     index, and every inbox by one name: after matching, nothing has changed
//     since before it, and every name that a message goes to is still the
//     session's. Names only move on, so two messages for one session have the
//     same one, and none lacks a session that the other has. Otherwise the
//     round is planned again. See planAll.
//   - What goes to one name in one round is appended by one command or one
//     script, in the order of the messages: all of it or, if the inbox has
//     moved, nothing. So if one has to be tried again the other has too, and
//     they go together again. Whether the plain command or the script is used
//     is decided for all of it at once.
//   - What was stored in an earlier round is left alone. What a later round
//     adds for a session comes of a subscription that was missing before: for
//     every message of that topic, so that none is put behind a later one.
//   - Rounds of different calls mix in any order. A call that fails after its
//     outcome became unknown may still be carried out by the server, after its
//     repetition: messages without identity then come twice, the second time
//     behind later ones, as at-least-once allows. Those with an identity do
//     not: the inbox knows it.
//
// Messages of a shared group that waited in its queue leave it by number, and
// go back by number if their taker dies.
package redis
