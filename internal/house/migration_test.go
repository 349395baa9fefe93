package house

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mosquittoOptions are those of mosquitto.conf(5) of Mosquitto 2.0.11, but for the
// settings of bridges that have bridge_, local_ or remote_ in front.
const mosquittoOptions = `
	acl_file address allow_anonymous allow_duplicate_messages allow_zero_length_clientid auth_plugin
	auth_plugin_deny_special_chars auto_id_prefix autosave_interval autosave_on_changes bind_address
	bind_interface cafile capath certfile check_retain_source ciphers ciphers_tls1.3 cleansession
	clientid_prefixes connection connection_messages crlfile dhparamfile http_dir idle_timeout include_dir
	keepalive_interval keyfile listener log_dest log_facility log_timestamp log_timestamp_format log_type
	max_connections max_inflight_bytes max_inflight_messages max_keepalive max_packet_size max_qos
	max_queued_bytes max_queued_messages max_topic_alias memory_limit message_size_limit mount_point
	notification_topic notifications notifications_local_only password_file per_listener_settings persistence
	persistence_file persistence_location persistent_client_expiration pid_file port protocol psk_file psk_hint
	queue_qos0_messages require_certificate restart_timeout retain_available round_robin set_tcp_nodelay
	socket_domain start_type sys_interval threshold tls_engine tls_engine_kpass_sha1 tls_keyform tls_version topic
	try_private upgrade_outgoing_qos use_identity_as_username use_subject_as_username use_username_as_clientid
	user websockets_headers_size websockets_log_level
`

// TestMigrationPage: docs/migration.md says of every option of Mosquitto where it
// went.
func TestMigrationPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs/migration.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range strings.Fields(mosquittoOptions) {
		if !regexp.MustCompile("(?m)^\\|[^|]*`" + regexp.QuoteMeta(o) + "\\b").Match(page) {
			t.Errorf("%s has no row", o)
		}
	}
}
