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
// Every script touches the keys of one tag. What spans several is ordered so
// that dying half way leaves work to be found, never work undone: a gateway
// notes a client in its own list before it changes the session, and who reaps
// the gateway looks after all that are in it.
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
package redis
