package main

import (
	"log/slog"
	"net"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/index"
	"github.com/sluice-mqtt/sluice/backend/memory"
	"github.com/sluice-mqtt/sluice/gateway"
)

// config is every environment variable of the program, in the order in which
// the table shows them. The tags of a field:
//
//	env, envDefault  name and default; an empty variable is the default
//	doc              what it means
//	min, max, oneof  what is allowed, checked by load
//	allowed          the same in words, where the field's type checks it
//	option           the field of gateway.Options that it sets, by which an
//	                 error of the gateway finds its variable; "Store.…" those
//	                 of the store
//	secret           "true": never shown, and has a twin NAME_FILE
type config struct {
	Backend string `env:"GATEWAY_BACKEND" envDefault:"memory" allowed:"memory, nats" doc:"What carries messages between gateways. memory: there is one gateway. nats needs GATEWAY_STORE=redis."`
	Store   string `env:"GATEWAY_STORE" envDefault:"memory" allowed:"memory, redis" doc:"Where sessions, inboxes and retained messages are. memory: they end with the process."`

	ID           string        `env:"GATEWAY_ID" option:"ID" allowed:"text" doc:"Name of this run of this gateway; no two live ones share one. Empty: random."`
	Lease        time.Duration `env:"GATEWAY_LEASE" envDefault:"15s" min:"1s" max:"10m" option:"Timing.Lease" doc:"How long the store waits for a silent gateway before it counts as dead; renewed every third."`
	Drain        time.Duration `env:"GATEWAY_DRAIN" envDefault:"20s" min:"0s" max:"1h" option:"Timing.Drain" doc:"Over which time the clients are sent away at shutdown; 0s: all at once."`
	DrainDelay   time.Duration `env:"GATEWAY_DRAIN_DELAY" envDefault:"0s" min:"0s" max:"1h" option:"Timing.DrainDelay" doc:"At shutdown, how long clients are still accepted after /readyz says no, so that load balancers notice."`
	StoreTimeout time.Duration `env:"GATEWAY_STORE_TIMEOUT" envDefault:"2s" min:"10ms" max:"1m" option:"Timing.Store" doc:"Limit of one call to the store or the backend."`
	StoreHold    time.Duration `env:"GATEWAY_STORE_HOLD" envDefault:"5s" min:"10ms" max:"1m" option:"Timing.Hold" doc:"How long a publish that cannot be stored holds up its connection before that is closed."`
	InboxPoll    time.Duration `env:"GATEWAY_INBOX_POLL" envDefault:"5s" min:"100ms" max:"1m" option:"Timing.Poll" doc:"How often inboxes are looked into while notices may be getting lost."`
	GapPolicy    string        `env:"GATEWAY_GAP_POLICY" envDefault:"count" oneof:"count,disconnect" option:"GapPolicy" doc:"What happens to sessions without an inbox when messages for them may have been lost between gateways."`

	TCPListen  address  `env:"MQTT_TCP_LISTEN" envDefault:"127.0.0.1:1883" allowed:"host:port, off" option:"listener tcp" doc:"Where MQTT over TCP is accepted. Port 0: a free one."`
	TLSListen  address  `env:"MQTT_TLS_LISTEN" envDefault:"off" allowed:"host:port, off" option:"listener tls" doc:"Where MQTT over TLS is accepted, usually on port 8883. Needs TLS_CERT_FILE and TLS_KEY_FILE."`
	WSListen   address  `env:"MQTT_WS_LISTEN" envDefault:"127.0.0.1:8083" allowed:"host:port, off" option:"listener ws" doc:"Where MQTT over WebSocket is accepted."`
	WSSListen  address  `env:"MQTT_WSS_LISTEN" envDefault:"off" allowed:"host:port, off" option:"listener wss" doc:"Where MQTT over WebSocket over TLS is accepted."`
	UnixListen string   `env:"MQTT_UNIX_LISTEN" option:"listener unix" allowed:"path" doc:"Path of a unix socket where MQTT is accepted; one that was left behind is removed. Empty: none."`
	UnixMode   fileMode `env:"MQTT_UNIX_MODE" envDefault:"0660" allowed:"octal permissions" doc:"Permissions of the unix socket; who may write may connect."`
	WSPath     list     `env:"MQTT_WS_PATH" envDefault:"/mqtt" allowed:"paths, *" doc:"Paths of the WebSocket; * is any."`
	WSOrigins  list     `env:"MQTT_WS_ORIGINS" envDefault:"*" allowed:"origins, hosts, *" doc:"Origins whose pages may connect, as https://app.example.com, or as host for any scheme; a * stands for any part of a name."`

	ProxyFrom      networks `env:"MQTT_PROXY_PROTOCOL_FROM" option:"ProxyProtocolFrom" allowed:"networks as 10.0.0.0/8, addresses" doc:"Balancers that begin every connection with a PROXY header (version 1 or 2), before TLS, which tells the address of the client; one that does not is cut off. Anybody else's header is not taken. Empty: none."`
	TrustedProxies networks `env:"MQTT_TRUSTED_PROXIES" option:"TrustedProxies" allowed:"networks as 10.0.0.0/8, addresses" doc:"Proxies whose X-Forwarded-For headers, in WebSocket requests, are believed. Empty: none."`

	TLSCertFile      string        `env:"TLS_CERT_FILE" option:"TLS.CertFile" allowed:"path" doc:"Certificate of the TLS listeners with its chain, as PEM. Changed files are noticed, and read at once on SIGHUP; as long as they are of no use, the old ones stay in force."`
	TLSKeyFile       string        `env:"TLS_KEY_FILE" option:"TLS.KeyFile" allowed:"path" doc:"Its private key, as PEM."`
	TLSClientCert    string        `env:"TLS_CLIENT_CERT" envDefault:"none" oneof:"none,optional,required" option:"TLS.ClientCert" doc:"Whether clients show a certificate."`
	TLSClientCAFile  string        `env:"TLS_CLIENT_CA_FILE" option:"TLS.ClientCAFile" allowed:"path" doc:"Authorities of the clients' certificates, as PEM."`
	TLSClientCRL     string        `env:"TLS_CLIENT_CRL_FILE" option:"TLS.ClientCRLFile" allowed:"path" doc:"Revocation lists of all those authorities, as PEM. Whose certificate is on one is sent away; nobody gets in by an authority whose list is missing or out of date. Empty: nobody looks."`
	TLSMinVersion    string        `env:"TLS_MIN_VERSION" envDefault:"1.2" oneof:"1.2,1.3" option:"TLS.MinVersion" doc:"Lowest version of TLS."`
	TLSIdentity      string        `env:"TLS_IDENTITY" envDefault:"none" oneof:"none,cn,dn,san_uri,san_dns,san_email" option:"TLS.Identity" doc:"Part of a client's certificate that names it. A client whose certificate lacks it is refused."`
	TLSIdentityAs    string        `env:"TLS_IDENTITY_AS" envDefault:"none" oneof:"none,username,client_id" option:"TLS.IdentityAs" doc:"What that name replaces of what CONNECT says."`
	TLSIdentityMatch bool          `env:"TLS_IDENTITY_MATCH" envDefault:"false" option:"TLS.IdentityMatch" doc:"Whether clients with a certificate are refused whose client identifier is not that name."`
	TLSHandshakes    int           `env:"TLS_HANDSHAKES" envDefault:"0" min:"0" max:"1024" option:"Limits.Handshakes" doc:"Handshakes computed at one time; 0: half as many as there are processors."`
	TLSReload        time.Duration `env:"TLS_RELOAD_INTERVAL" envDefault:"10s" min:"0s" max:"24h" option:"Timing.Certificates" doc:"Between two looks at whether the files have changed; 0s: on SIGHUP only."`

	MaxConnections   int           `env:"MQTT_MAX_CONNECTIONS" envDefault:"50000" min:"1" option:"Limits.Connections" doc:"Connections at one time."`
	MaxPerAddress    int           `env:"MQTT_MAX_CONNECTIONS_PER_ADDRESS" envDefault:"0" min:"0" max:"1000000" option:"Limits.AddressConnections" doc:"The same from one address, or /64 network of IPv6; 0: any number. Behind a balancer only where it tells the clients' addresses."`
	AcceptRate       int           `env:"MQTT_ACCEPT_RATE" envDefault:"0" min:"0" max:"1000000" option:"Limits.AcceptRate" doc:"Connections accepted in a second, and twice as many at once; more wait in the system's queue. 0: any number."`
	AddressRate      int           `env:"MQTT_ACCEPT_RATE_PER_ADDRESS" envDefault:"0" min:"0" max:"1000000" option:"Limits.AddressRate" doc:"The same from one address; more are closed at once, before TLS. 0: any number."`
	ConnectRate      int           `env:"MQTT_CONNECT_RATE" envDefault:"1000" min:"0" max:"1000000" option:"Limits.ConnectRate" doc:"CONNECTs in a second, and twice as many at once. More wait up to half of the time to connect and are refused then (0x9F), before authentication. 0: any number."`
	MaxFlaps         int           `env:"MQTT_MAX_FLAPS" envDefault:"0" min:"0" max:"100000" option:"Limits.Flaps" doc:"How often in a minute a client may disconnect before it is kept out (0x9F) for MQTT_FLAP_BAN; 0: any number."`
	FlapBan          time.Duration `env:"MQTT_FLAP_BAN" envDefault:"1m" min:"1s" max:"24h" option:"Limits.FlapBan" doc:"How long it is kept out."`
	PublishRate      int           `env:"MQTT_PUBLISH_RATE" envDefault:"0" min:"0" max:"10000000" option:"Limits.PublishRate" doc:"Publishes of one client in a second; it is made to wait, nothing is lost. 0: any number."`
	PublishBytes     size          `env:"MQTT_PUBLISH_BYTES" envDefault:"0" min:"0" max:"1GiB" option:"Limits.PublishBytes" doc:"Bytes of one client in a second, likewise. 0: any number."`
	ConnectTimeout   time.Duration `env:"MQTT_CONNECT_TIMEOUT" envDefault:"10s" min:"10ms" max:"5m" option:"Timing.Connect" doc:"From accept to CONNACK, all in."`
	WriteTimeout     time.Duration `env:"MQTT_WRITE_TIMEOUT" envDefault:"10s" min:"10ms" max:"5m" option:"Timing.Write" doc:"How long a client may leave its socket full."`
	MaxKeepAlive     seconds       `env:"MQTT_MAX_KEEPALIVE" envDefault:"5m" min:"0s" max:"65535s" option:"Limits.KeepAlive" doc:"Longest keep-alive, and that of clients that ask for none; 0s: any. MQTT 5 clients are told, others are held to their own."`
	MaxPacketSize    size          `env:"MQTT_MAX_PACKET_SIZE" envDefault:"512KiB" min:"256" max:"256MiB" option:"Limits.PacketSize" doc:"Largest packet taken, header included; told to MQTT 5 clients."`
	MaxConnectSize   size          `env:"MQTT_MAX_CONNECT_SIZE" envDefault:"192KiB" min:"256" max:"256MiB" option:"Limits.ConnectPacketSize" doc:"Largest CONNECT, will included."`
	MaxSubscriptions int           `env:"MQTT_MAX_SUBSCRIPTIONS" envDefault:"1000" min:"0" option:"Limits.Subscriptions" doc:"Subscriptions of one session; 0: any number."`
	MaxTopicLength   int           `env:"MQTT_MAX_TOPIC_LENGTH" envDefault:"65535" min:"1" max:"65535" option:"Limits.TopicLength" doc:"Bytes of a topic name or filter."`
	MaxTopicLevels   int           `env:"MQTT_MAX_TOPIC_LEVELS" envDefault:"64" min:"1" max:"65536" option:"Limits.TopicLevels" doc:"Levels of a topic name or filter."`
	MaxQoS           int           `env:"MQTT_MAX_QOS" envDefault:"2" oneof:"0,1,2" option:"Limits.MaximumQoS" doc:"Highest QoS taken and granted."`
	ReceiveMaximum   int           `env:"MQTT_RECEIVE_MAXIMUM" envDefault:"1024" min:"1" max:"65535" option:"Limits.ReceiveMaximum" doc:"QoS 1 and 2 publishes under way from one MQTT 5 client."`
	MaxInflight      int           `env:"MQTT_MAX_INFLIGHT" envDefault:"256" min:"1" max:"65535" option:"Limits.InFlight" doc:"QoS 1 and 2 publishes under way to one client; its own receive maximum may lower it."`
	TopicAliases     int           `env:"MQTT_TOPIC_ALIAS_MAXIMUM" envDefault:"32" min:"0" max:"65535" option:"Limits.TopicAliases" doc:"Topic aliases that one client may define."`
	TopicAliasesOut  int           `env:"MQTT_TOPIC_ALIAS_OUT" envDefault:"32" min:"0" max:"65535" option:"Limits.TopicAliasesOut" doc:"Topic aliases that the gateway defines towards one client, if that allows them."`
	OutboxBytes      size          `env:"MQTT_OUTBOX_BYTES" envDefault:"1MiB" min:"4KiB" max:"1GiB" option:"Limits.OutboxBytes" doc:"Bytes that wait for one slow socket. QoS 0 messages above it are dropped; anything else closes the connection."`
	OutboxMessages   int           `env:"MQTT_OUTBOX_MESSAGES" envDefault:"1000" min:"1" max:"1000000" option:"Limits.OutboxMessages" doc:"QoS 1 and 2 messages that wait for one client whose session ends with its connection; newer ones are dropped."`

	SessionExpiryMax seconds `env:"MQTT_SESSION_EXPIRY_MAX" envDefault:"0s" min:"0s" max:"4294967294s" option:"Limits.SessionExpiry" doc:"Longest session expiry interval of MQTT 5 clients; 0s: any."`
	SessionExpiryV3  seconds `env:"MQTT_SESSION_EXPIRY_V3" envDefault:"168h" min:"1s" max:"4294967294s" option:"Limits.SessionExpiryV3" doc:"Session expiry interval of MQTT 3 clients with clean session 0."`
	MessageExpiryMax seconds `env:"MQTT_MESSAGE_EXPIRY_MAX" envDefault:"0s" min:"0s" max:"4294967294s" option:"Limits.MessageExpiry" doc:"Longest message expiry interval, given to messages without one; 0s: any, and none is given."`
	WillDelayMax     seconds `env:"MQTT_WILL_DELAY_MAX" envDefault:"24h" min:"1s" max:"4294967294s" option:"Limits.WillDelay" doc:"Longest will delay interval."`

	InboxMessages  int            `env:"MQTT_INBOX_MESSAGES" envDefault:"10000" min:"0" option:"Store.InboxMessages" doc:"Messages that wait in the inbox of one durable session, or for one shared group; 0: any number."`
	InboxBytes     size           `env:"MQTT_INBOX_BYTES" envDefault:"64MiB" min:"0" option:"Store.InboxBytes" doc:"Bytes of them; 0: any number."`
	InboxFull      fullPolicy     `env:"MQTT_INBOX_FULL" envDefault:"drop_newest" allowed:"drop_newest, drop_oldest" option:"Store.InboxFull" doc:"Which message goes when an inbox is full; each is counted."`
	RetainedMax    int            `env:"MQTT_RETAINED_MAX" envDefault:"1000000" min:"0" option:"Store.RetainedMessages" doc:"Retained messages; 0: any number."`
	RetainedBytes  size           `env:"MQTT_RETAINED_BYTES" envDefault:"1GiB" min:"0" option:"Store.RetainedBytes" doc:"Bytes of them; 0: any number."`
	SharedStrategy index.Strategy `env:"MQTT_SHARED_STRATEGY" envDefault:"round_robin" allowed:"round_robin, random, least_in_flight, local_first, sticky, hash_client_id, hash_topic" option:"Store.ShareStrategy" doc:"How the member of a shared subscription is chosen that gets a message."`

	RetainAvailable   bool `env:"MQTT_RETAIN_AVAILABLE" envDefault:"true" option:"Limits.NoRetain" doc:"Retained messages."`
	WildcardAvailable bool `env:"MQTT_WILDCARD_AVAILABLE" envDefault:"true" option:"Limits.NoWildcards" doc:"Subscriptions with wildcards."`
	SubIDsAvailable   bool `env:"MQTT_SUBSCRIPTION_IDS_AVAILABLE" envDefault:"true" option:"Limits.NoSubscriptionIDs" doc:"Subscription identifiers."`
	SharedAvailable   bool `env:"MQTT_SHARED_AVAILABLE" envDefault:"true" option:"Limits.NoShared" doc:"Shared subscriptions."`

	SysInterval         seconds `env:"MQTT_SYS_INTERVAL" envDefault:"10s" min:"0s" max:"24h" option:"Timing.Sys" doc:"Between two publications of $SYS/broker/…; 0s: never."`
	DollarPublish       bool    `env:"MQTT_DOLLAR_PUBLISH" envDefault:"false" option:"DollarPublish" doc:"Whether clients may publish to topics that begin with $, other than $SYS."`
	ServerReference     string  `env:"MQTT_SERVER_REFERENCE" option:"ServerReference" allowed:"text" doc:"Server that MQTT 5 clients are told to use at shutdown (reason code 0x9C). Empty: none (0x8B)."`
	ResponseInformation string  `env:"MQTT_RESPONSE_INFORMATION" option:"ResponseInformation" allowed:"topic prefix" doc:"Response information for clients that ask for it; their identifier is appended. Empty: none."`

	RedisURL          string `env:"REDIS_URL" envDefault:"redis://127.0.0.1:6379/0" allowed:"URL" secret:"true" doc:"Redis of GATEWAY_STORE=redis: redis://, rediss:// (TLS), unix://; several hosts or ?cluster=true for a cluster; redis+sentinel://hosts/name-of-the-primary/0."`
	RedisUsername     string `env:"REDIS_USERNAME" allowed:"text" doc:"User of Redis; goes before that of REDIS_URL. Its rights: see docs/redis.md."`
	RedisPassword     string `env:"REDIS_PASSWORD" allowed:"text" secret:"true" doc:"Password for Redis; goes before that of REDIS_URL."`
	RedisTLSCA        string `env:"REDIS_TLS_CA_FILE" allowed:"path" doc:"Certificates (PEM) that vouch for Redis, for rediss:// or ?tls=true. Empty: those of the system."`
	RedisTLSCert      string `env:"REDIS_TLS_CERT_FILE" allowed:"path" doc:"The gateway's own certificate (PEM) towards Redis, with REDIS_TLS_KEY_FILE. Empty: none."`
	RedisTLSKey       string `env:"REDIS_TLS_KEY_FILE" allowed:"path" doc:"Its private key (PEM)."`
	RedisTLSInsecure  bool   `env:"REDIS_TLS_INSECURE" envDefault:"false" doc:"Whether any certificate of Redis will do. Who is in between can read and change everything then."`
	RedisKeyPrefix    string `env:"REDIS_KEY_PREFIX" envDefault:"sluice:" allowed:"text" doc:"In front of every key. Two clusters of gateways on one Redis need two."`
	RedisWaitReplicas int    `env:"REDIS_WAIT_REPLICAS" envDefault:"0" min:"0" max:"16" doc:"Replicas that must have a message before it is acknowledged."`
	RedisPoolSize     int    `env:"REDIS_POOL_SIZE" envDefault:"32" min:"1" max:"10000" doc:"Connections to each Redis server, at most."`

	NATSURL           string `env:"NATS_URL" envDefault:"nats://127.0.0.1:4222" allowed:"URLs" secret:"true" doc:"NATS of GATEWAY_BACKEND=nats: nats://, tls://, ws:// or wss://, several separated by commas."`
	NATSSubjectPrefix string `env:"NATS_SUBJECT_PREFIX" envDefault:"sluice" allowed:"tokens" doc:"What every subject begins with. Two clusters of gateways on one NATS need two."`
	NATSCredentials   string `env:"NATS_CREDENTIALS" allowed:"path" doc:"A .creds file to authenticate with. Empty: what NATS_URL says."`
	NATSUser          string `env:"NATS_USER" allowed:"text" doc:"User of NATS, with NATS_PASSWORD; goes before that of NATS_URL."`
	NATSPassword      string `env:"NATS_PASSWORD" allowed:"text" secret:"true" doc:"Password of NATS_USER."`
	NATSToken         string `env:"NATS_TOKEN" allowed:"text" secret:"true" doc:"Token for NATS, instead of user and password."`
	NATSNKey          string `env:"NATS_NKEY_SEED_FILE" allowed:"path" doc:"File with the seed of an NKey, instead of user and password."`
	NATSTLSCA         string `env:"NATS_TLS_CA_FILE" allowed:"path" doc:"Certificates (PEM) that vouch for NATS. Empty: those of the system. Any NATS_TLS_… makes every connection encrypted."`
	NATSTLSCert       string `env:"NATS_TLS_CERT_FILE" allowed:"path" doc:"The gateway's own certificate (PEM) towards NATS, with NATS_TLS_KEY_FILE. Empty: none."`
	NATSTLSKey        string `env:"NATS_TLS_KEY_FILE" allowed:"path" doc:"Its private key (PEM)."`
	NATSTLSInsecure   bool   `env:"NATS_TLS_INSECURE" envDefault:"false" doc:"Whether any certificate of NATS will do. Who is in between can read and change everything then."`

	BridgePrefix string `env:"NATS_BRIDGE_PREFIX" allowed:"tokens" doc:"Lets applications on NATS (NATS_URL) take part: what is published comes on <prefix>.message.<topic>, and what they publish on <prefix>.publish.<topic> goes to MQTT clients; see docs/nats.md. Empty: neither."`
	BridgeTopics list   `env:"NATS_BRIDGE_TOPICS" envDefault:"#" allowed:"topic filters" doc:"What of it goes to applications."`

	HTTPListen address  `env:"HTTP_LISTEN" envDefault:"127.0.0.1:18083" allowed:"host:port, off" doc:"Where /healthz, /readyz, /metrics and the status page are. Everybody who reaches it may look."`
	APIToken   apiToken `env:"HTTP_TOKEN" allowed:"16 to 1024 characters" secret:"true" doc:"Opens the API, and the parts of the status page that name clients, to who sends it (Authorization: Bearer …). Empty: there is no API."`

	EventsURL     string        `env:"EVENTS_HTTP_URL" allowed:"URL" secret:"true" doc:"HTTP server that is told of events, such as clients that connect; see docs/events.md. Empty: none."`
	EventsToken   string        `env:"EVENTS_HTTP_TOKEN" allowed:"text" secret:"true" doc:"What it is told as Authorization: Bearer. Empty: nothing."`
	EventsTimeout time.Duration `env:"EVENTS_HTTP_TIMEOUT" envDefault:"5s" min:"10ms" max:"1m" doc:"How long its answer may take."`
	EventsNATS    bool          `env:"EVENTS_NATS" envDefault:"false" doc:"Whether events are published on NATS (NATS_URL), on the subjects <NATS_SUBJECT_PREFIX>.events.<kind>."`
	EventKinds    list          `env:"EVENTS_KINDS" allowed:"a list of all, started, stopping, connected, refused, disconnected, taken_over, subscribed, unsubscribed, dropped, will, session_ended, received, retained, delivered, packet_received, packet_sent" doc:"Which kinds of events are told. Empty: those up to session_ended, which do not come with every message."`
	EventsQueue   int           `env:"EVENTS_QUEUE" envDefault:"10000" min:"1" max:"1000000" doc:"Events that wait for each receiver; more are lost, which is counted."`
	EventsBatch   int           `env:"EVENTS_BATCH" envDefault:"100" min:"1" max:"10000" doc:"Events told at one time, at most."`
	EventsRetry   time.Duration `env:"EVENTS_RETRY" envDefault:"1m" min:"1s" max:"1h" doc:"For how long it is tried to tell them, with growing pauses."`

	OTelEndpoint      string `env:"OTEL_EXPORTER_OTLP_ENDPOINT" allowed:"URL" doc:"OpenTelemetry collector that traces are sent to, at its path /v1/traces; see docs/tracing.md, and for further variables of the standard. Empty: none, and no other OTEL_… variable is looked at."`
	OTelTraces        string `env:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" allowed:"URL" doc:"The same with the whole path; goes before it."`
	OTelProtocol      string `env:"OTEL_EXPORTER_OTLP_PROTOCOL" allowed:"http/protobuf, http/json" doc:"How it is spoken to. Empty: http/protobuf."`
	OTelTraceProtocol string `env:"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL" allowed:"http/protobuf, http/json" doc:"Goes before it."`
	OTelHeaders       string `env:"OTEL_EXPORTER_OTLP_HEADERS" allowed:"a list of name=value" secret:"true" doc:"Headers that are sent to it, values as in URLs."`
	OTelTraceHeaders  string `env:"OTEL_EXPORTER_OTLP_TRACES_HEADERS" allowed:"a list of name=value" secret:"true" doc:"Goes before it."`
	OTelService       string `env:"OTEL_SERVICE_NAME" allowed:"text" doc:"What the traces are said to be of. Empty: sluice."`
	OTelResource      string `env:"OTEL_RESOURCE_ATTRIBUTES" allowed:"a list of name=value" doc:"What else they say of the gateway."`
	OTelSampler       string `env:"OTEL_TRACES_SAMPLER" allowed:"always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off, parentbased_traceidratio" doc:"Which traces are sent. Empty: parentbased_always_on, which is every CONNECT and every PUBLISH of QoS 1 and 2 whose publisher does not say otherwise."`
	OTelSamplerArg    string `env:"OTEL_TRACES_SAMPLER_ARG" allowed:"0 to 1" doc:"Part of the traces that a sampler with traceidratio sends. Empty: 1."`
	OTelExporter      string `env:"OTEL_TRACES_EXPORTER" allowed:"otlp, none" doc:"none: no traces are sent. Empty: otlp."`
	OTelDisabled      string `env:"OTEL_SDK_DISABLED" allowed:"true, false" doc:"true: no traces are sent."`

	Anonymous         string        `env:"AUTH_ANONYMOUS" envDefault:"loopback" oneof:"true,false,loopback" doc:"Whether clients without credentials are let in; loopback: as long as nothing of AUTH_CHAIN is configured and every MQTT listener is on a loopback address."`
	AuthChain         list          `env:"AUTH_CHAIN" allowed:"a list of certificate, jwt, file, redis, http" doc:"In which order the sources of users are asked. Empty: in the order of this list, those whose variables are set."`
	PasswordFile      string        `env:"AUTH_PASSWORD_FILE" allowed:"path" doc:"File of users and hashed passwords, as gateway passwd, mosquitto_passwd and amqtt make them."`
	RedisUsers        bool          `env:"AUTH_REDIS_USERS" envDefault:"false" doc:"Whether users are in Redis, at REDIS_URL and under REDIS_KEY_PREFIX, where gateway passwd --redis puts them."`
	HashConcurrency   int           `env:"AUTH_HASH_CONCURRENCY" envDefault:"0" min:"0" max:"1024" doc:"Passwords that are computed at one time; 0: half as many as there are processors."`
	PasswordMemory    time.Duration `env:"AUTH_PASSWORD_MEMORY" envDefault:"5m" min:"0s" max:"24h" doc:"How long a password that was right need not be computed again."`
	ACLFile           string        `env:"AUTH_ACL_FILE" allowed:"path" doc:"Who may publish, subscribe and receive what, as in Mosquitto's acl_file. Empty, and nothing else says: everybody everything."`
	RedisACL          bool          `env:"AUTH_REDIS_ACL" envDefault:"false" doc:"Whether rules of topics are in Redis, at REDIS_URL and under REDIS_KEY_PREFIX, where gateway acl puts them."`
	JWTSecret         string        `env:"AUTH_JWT_SECRET" allowed:"text" secret:"true" doc:"Shared secret that tokens (JWT) are signed with by HS256, HS384 or HS512; at least 32 bytes. A client gives its token as password, or by the MQTT 5 authentication method JWT."`
	JWTKeyFile        string        `env:"AUTH_JWT_KEY_FILE" allowed:"path" doc:"Public keys or certificates, as PEM, of which one has signed the tokens: RSA (RS, PS), ECDSA (ES) or Ed25519 (EdDSA)."`
	JWTKeySetURL      string        `env:"AUTH_JWT_JWKS_URL" allowed:"URL" doc:"Where the public keys are as a JWK Set. It is asked again when it is 15 minutes old, and for a key that is not in it."`
	JWTIssuer         string        `env:"AUTH_JWT_ISSUER" allowed:"text" doc:"What the claim iss must be. Empty: anything."`
	JWTAudience       string        `env:"AUTH_JWT_AUDIENCE" allowed:"text" doc:"What the claim aud must contain. Empty: anything."`
	JWTLeeway         time.Duration `env:"AUTH_JWT_LEEWAY" envDefault:"10s" min:"0s" max:"10m" doc:"By how much the clocks of issuer and gateway may differ."`
	JWTEndless        bool          `env:"AUTH_JWT_ENDLESS" envDefault:"false" doc:"Whether tokens without the claim exp are good, for ever."`
	JWTUserClaim      string        `env:"AUTH_JWT_USER_CLAIM" envDefault:"sub" allowed:"claim" doc:"The claim that is the user."`
	JWTSameUser       bool          `env:"AUTH_JWT_SAME_USER" envDefault:"false" doc:"Whether a user name in CONNECT must be the user of the token."`
	JWTPublishClaim   string        `env:"AUTH_JWT_PUBLISH_CLAIM" allowed:"claim" doc:"The claim that lists filters of topics to publish to. With one of these three set, a client may do nothing that no source of permissions allows."`
	JWTSubscribeClaim string        `env:"AUTH_JWT_SUBSCRIBE_CLAIM" allowed:"claim" doc:"The claim that lists filters to subscribe within."`
	JWTReceiveClaim   string        `env:"AUTH_JWT_RECEIVE_CLAIM" allowed:"claim" doc:"The claim that lists filters of topics to receive from. A token without it: what may be subscribed to."`
	HTTPUserURL       string        `env:"AUTH_HTTP_USER_URL" allowed:"URL" doc:"HTTP server that is asked who may connect. While it does not answer, nobody is let in."`
	HTTPACLURL        string        `env:"AUTH_HTTP_ACL_URL" allowed:"URL" doc:"HTTP server that is asked who may publish and subscribe to what. While it does not answer, nothing new is allowed."`
	HTTPACLReceive    bool          `env:"AUTH_HTTP_ACL_RECEIVE" envDefault:"false" doc:"Whether it is asked of deliveries as well, which then wait for it; otherwise a client receives what it could subscribe to."`
	HTTPForm          string        `env:"AUTH_HTTP_FORM" envDefault:"json" oneof:"json,form,get" doc:"How it is asked: POST with JSON, POST with the fields of a form, or GET."`
	HTTPResponse      string        `env:"AUTH_HTTP_RESPONSE" envDefault:"status" oneof:"status,json,text" doc:"Where its answer is: in the status (2xx yes, 404 ask the next, 4xx no), in JSON (result or ok), or in the text ok."`
	HTTPToken         string        `env:"AUTH_HTTP_TOKEN" allowed:"text" secret:"true" doc:"What it is told as Authorization: Bearer. Empty: nothing."`
	HTTPTimeout       time.Duration `env:"AUTH_HTTP_TIMEOUT" envDefault:"1500ms" min:"10ms" max:"1m" doc:"How long its answer may take."`
	HTTPConcurrency   int           `env:"AUTH_HTTP_CONCURRENCY" envDefault:"64" min:"1" max:"10000" doc:"Questions to it at one time; others wait."`
	HTTPCache         time.Duration `env:"AUTH_HTTP_CACHE" envDefault:"1m" min:"0s" max:"24h" doc:"How long its answers are remembered; of those about who may connect, only a yes is. 0s: not at all, and each message waits for it."`
	AuthReload        time.Duration `env:"AUTH_RELOAD_INTERVAL" envDefault:"10s" min:"0s" max:"24h" doc:"Between two looks at whether users and permissions have changed, in files and in Redis; 0s: on SIGHUP only."`
	DeniedPublish     string        `env:"AUTH_DENIED_PUBLISH" envDefault:"drop" oneof:"drop,disconnect" option:"DeniedPublish" doc:"What happens to a PUBLISH that is not allowed where MQTT has no reason code to say so."`

	LogLevel  slog.Level `env:"LOG_LEVEL" envDefault:"info" allowed:"debug, info, warn, error" doc:"Least level that is logged."`
	LogFormat string     `env:"LOG_FORMAT" envDefault:"text" oneof:"text,json" doc:"Form of the log, which goes to standard error."`
}

// Names of the listeners, as they appear in the log and in the option tags.
const (
	listenerTCP  = "tcp"
	listenerTLS  = "tls"
	listenerWS   = "ws"
	listenerWSS  = "wss"
	listenerUnix = "unix"
)

// options returns what the gateway is to be made of, without store, backend
// and logger. Where 0 means none here and the default there, it becomes
// negative.
func (c *config) options() gateway.Options {
	qos := byte(c.MaxQoS)
	o := gateway.Options{
		ID:                  backend.NodeID(c.ID),
		Version:             versionText(),
		ServerReference:     c.ServerReference,
		ResponseInformation: c.ResponseInformation,
		GapPolicy:           gateway.GapPolicy(c.GapPolicy),
		DeniedPublish:       gateway.DeniedPolicy(c.DeniedPublish),
		DollarPublish:       c.DollarPublish,
		Listeners:           c.listeners(),
		TrustedProxies:      c.TrustedProxies,
		ProxyProtocolFrom:   c.ProxyFrom,
		Limits: gateway.Limits{
			Connections:        c.MaxConnections,
			Handshakes:         c.TLSHandshakes,
			AddressConnections: c.MaxPerAddress,
			AcceptRate:         c.AcceptRate,
			AddressRate:        c.AddressRate,
			ConnectRate:        orNegative(c.ConnectRate),
			Flaps:              c.MaxFlaps,
			FlapBan:            c.FlapBan,
			PublishRate:        c.PublishRate,
			PublishBytes:       int64(c.PublishBytes),
			PacketSize:         uint32(c.MaxPacketSize),
			ConnectPacketSize:  uint32(c.MaxConnectSize),
			TopicLength:        c.MaxTopicLength,
			TopicLevels:        c.MaxTopicLevels,
			Subscriptions:      orNegative(c.MaxSubscriptions),
			ReceiveMaximum:     uint16(c.ReceiveMaximum),
			InFlight:           uint16(c.MaxInflight),
			TopicAliases:       orNegative(c.TopicAliases),
			TopicAliasesOut:    orNegative(c.TopicAliasesOut),
			OutboxBytes:        int(c.OutboxBytes),
			OutboxMessages:     c.OutboxMessages,
			KeepAlive:          orNegative(c.MaxKeepAlive.duration()),
			SessionExpiry:      uint32(c.SessionExpiryMax),
			SessionExpiryV3:    uint32(c.SessionExpiryV3),
			MessageExpiry:      uint32(c.MessageExpiryMax),
			WillDelay:          uint32(c.WillDelayMax),
			MaximumQoS:         &qos,
			NoRetain:           !c.RetainAvailable,
			NoWildcards:        !c.WildcardAvailable,
			NoSubscriptionIDs:  !c.SubIDsAvailable,
			NoShared:           !c.SharedAvailable,
		},
		Timing: gateway.Timing{
			Connect:      c.ConnectTimeout,
			Write:        c.WriteTimeout,
			Lease:        c.Lease,
			Drain:        orNegative(c.Drain),
			DrainDelay:   c.DrainDelay,
			Store:        c.StoreTimeout,
			Hold:         c.StoreHold,
			Poll:         c.InboxPoll,
			Certificates: orNegative(c.TLSReload),
			Sys:          orNegative(c.SysInterval.duration()),
		},
	}
	return o
}

// storeOptions returns what a store in memory is to be made of.
func (c *config) storeOptions() memory.Options {
	return memory.Options{
		InboxMessages:    orNegative(c.InboxMessages),
		InboxBytes:       int64(orNegative(c.InboxBytes)),
		InboxFull:        memory.FullPolicy(c.InboxFull),
		Subscriptions:    orNegative(c.MaxSubscriptions),
		RetainedMessages: orNegative(c.RetainedMax),
		RetainedBytes:    int64(orNegative(c.RetainedBytes)),
		ShareStrategy:    c.SharedStrategy,
	}
}

func orNegative[T ~int | ~int64](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

// checkAnonymous refuses to let everybody in unless that was asked for, or
// nobody but this machine can connect.
func (c *config) checkAnonymous() error {
	chain, err := c.chain()
	switch {
	case err != nil:
		return err
	case c.Anonymous == "true", len(chain) > 0:
		return nil
	case c.Anonymous == "false":
		return &problem{Name: "AUTH_ANONYMOUS", Value: c.Anonymous,
			Text: "nothing else lets clients in; allowed is true, loopback, or a source of users, as AUTH_PASSWORD_FILE"}
	}
	for _, l := range []struct {
		name string
		at   address
	}{{"MQTT_TCP_LISTEN", c.TCPListen}, {"MQTT_TLS_LISTEN", c.TLSListen}, {"MQTT_WS_LISTEN", c.WSListen}, {"MQTT_WSS_LISTEN", c.WSSListen}} {
		if l.at.on() && !l.at.loopback() {
			return &problem{Name: l.name, Value: string(l.at),
				Text: "not a loopback address, and anonymous clients are let in there only with AUTH_ANONYMOUS=true"}
		}
	}
	return nil
}

// loopback reports whether only this machine can reach the address.
func (a address) loopback() bool {
	host, _, err := net.SplitHostPort(string(a))
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
