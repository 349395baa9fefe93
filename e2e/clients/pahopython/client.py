"""Eclipse Paho for Python as a client of the tests.

Speaks the line protocol that ../line/line.go defines. Written for paho-mqtt 1.6,
the version that Debian 12 and most installed programs have.
"""

import base64
import json
import os
import sys
import threading
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCodes
from paho.mqtt.subscribeoptions import SubscribeOptions

PROTOCOLS = {3: mqtt.MQTTv31, 4: mqtt.MQTTv311, 5: mqtt.MQTTv5}
ACK_SECONDS = 30

out = threading.Lock()


def report(**fields):
    with out:
        sys.stdout.write(json.dumps(fields) + "\n")
        sys.stdout.flush()


def number(code):
    """The number of a reason: MQTT 5 gives objects, earlier versions integers."""
    return code.value if isinstance(code, ReasonCodes) else int(code)


def properties_out(packet_type, p):
    props = Properties(packet_type)
    p = p or {}
    for name, field in (
        ("PayloadFormatIndicator", "payload_format"),
        ("MessageExpiryInterval", "expiry"),
        ("ContentType", "content_type"),
        ("ResponseTopic", "response_topic"),
    ):
        if field in p:
            setattr(props, name, p[field])
    if "correlation" in p:
        props.CorrelationData = base64.b64decode(p["correlation"])
    for pair in p.get("user") or []:
        props.UserProperty = tuple(pair)
    return props


def properties_in(props):
    if props is None or props.isEmpty():
        return None
    p = {}
    for name, field in (
        ("PayloadFormatIndicator", "payload_format"),
        ("MessageExpiryInterval", "expiry"),
        ("ContentType", "content_type"),
        ("ResponseTopic", "response_topic"),
    ):
        if hasattr(props, name):
            p[field] = getattr(props, name)
    if hasattr(props, "CorrelationData"):
        p["correlation"] = base64.b64encode(props.CorrelationData).decode()
    if hasattr(props, "UserProperty"):
        p["user"] = [list(pair) for pair in props.UserProperty]
    if hasattr(props, "SubscriptionIdentifier"):
        p["subscription_ids"] = sorted(props.SubscriptionIdentifier)
    return p


connections = {}  # by name


class Connection:
    """One client of the library, with its network thread."""

    def __init__(self, q):
        self.name, self.first = q["conn"], q["n"]
        connections[self.name] = self
        c = q["connect"]
        self.v5 = c["version"] == 5
        self.reconnect = c.get("reconnect", False)
        self.answered = self.up = False
        self.granted = {}  # mid -> [event, codes]
        self.lock = threading.Lock()

        url = urlsplit(c["url"])
        kind = {"mqtt": "tcp", "ws": "websockets"}[url.scheme]
        clean = {} if self.v5 else {"clean_session": c["clean"]}
        self.client = mqtt.Client(c["client_id"], protocol=PROTOCOLS[c["version"]], transport=kind, **clean)
        if kind == "websockets":
            self.client.ws_set_options(path=url.path)
        self.client.reconnect_delay_set(0.02, 0.2)
        self.client.on_connect = self.on_connect
        self.client.on_disconnect = self.on_disconnect
        self.client.on_message = self.on_message
        self.client.on_subscribe = self.on_granted
        self.client.on_unsubscribe = self.on_granted
        self.client.on_publish = self.on_granted
        if w := c.get("will"):
            props = None
            if self.v5:
                props = properties_out(PacketTypes.WILLMESSAGE, w.get("properties"))
                if c.get("will_delay"):
                    props.WillDelayInterval = c["will_delay"]
            self.client.will_set(w["topic"], base64.b64decode(w["payload"] or ""), w["qos"], w.get("retain", False), props)
        args = {}
        if self.v5:
            args["clean_start"] = c["clean"]
            if c.get("expiry"):
                args["properties"] = Properties(PacketTypes.CONNECT)
                args["properties"].SessionExpiryInterval = c["expiry"]
        self.client.connect(url.hostname, url.port, keepalive=c["keep_alive"], **args)
        self.client.loop_start()

    def on_connect(self, client, userdata, flags, code, props=None):
        if number(code) != 0:
            if not self.answered:
                report(n=self.first, error=f"refused: {code}")
            self.answered = True
            self.client.disconnect()
            return
        self.up = True
        facts = {
            "session_present": bool(flags["session present"]),
            "client_id": getattr(props, "AssignedClientIdentifier", ""),
        }
        if self.answered:
            report(n=0, conn=self.name, up=True, **facts)
        else:
            report(n=self.first, **facts)
        self.answered = True

    def on_disconnect(self, client, userdata, code, props=None):
        if not self.reconnect:
            self.client.disconnect()  # or the network thread connects again
        if not self.answered and not self.reconnect:
            self.answered = True
            report(n=self.first, error=f"closed before CONNACK: {code}")
        if self.up:
            self.up = False
            reason = number(code) if self.v5 and isinstance(code, ReasonCodes) else 0
            report(n=0, conn=self.name, down=True, reason=reason)

    def on_message(self, client, userdata, m):
        report(n=0, conn=self.name, message={
            "topic": m.topic,
            "payload": base64.b64encode(m.payload).decode(),
            "qos": m.qos,
            "retain": bool(m.retain),
            "dup": bool(m.dup),
            "properties": properties_in(getattr(m, "properties", None)),
        })

    def on_granted(self, client, userdata, mid, codes=None, *rest):
        """SUBACK, UNSUBACK and the end of a publish; what is passed differs."""
        if isinstance(codes, Properties):  # UNSUBACK under MQTT 5: properties come first
            codes = None
        waiting = self.waiting(mid)
        waiting[1] = [number(c) for c in codes or []]
        waiting[0].set()

    def waiting(self, mid):
        with self.lock:
            return self.granted.setdefault(mid, [threading.Event(), None])

    def acknowledged(self, result):
        code, mid = result
        if code != mqtt.MQTT_ERR_SUCCESS:
            raise RuntimeError(mqtt.error_string(code))
        waiting = self.waiting(mid)
        if not waiting[0].wait(ACK_SECONDS):
            raise TimeoutError(f"no acknowledgement of packet {mid}")
        with self.lock:
            del self.granted[mid]
        return waiting[1]

    def subscribe(self, q):
        if not self.v5:
            return {"codes": self.acknowledged(self.client.subscribe([(f["filter"], f["qos"]) for f in q["filters"]]))}
        filters = [
            (f["filter"], SubscribeOptions(
                f["qos"], f.get("no_local", False), f.get("retain_as_published", False), f.get("retain_handling", 0)))
            for f in q["filters"]
        ]
        props = None
        if q.get("subscription_id"):
            props = Properties(PacketTypes.SUBSCRIBE)
            props.SubscriptionIdentifier = q["subscription_id"]
        return {"codes": self.acknowledged(self.client.subscribe(filters, properties=props))}

    def unsubscribe(self, q):
        self.acknowledged(self.client.unsubscribe([f["filter"] for f in q["filters"]]))
        return {}

    def publish(self, q):
        results = [
            self.client.publish(
                m["topic"], base64.b64decode(m["payload"] or ""), m["qos"], m.get("retain", False),
                properties_out(PacketTypes.PUBLISH, m.get("properties")) if self.v5 else None)
            for m in q["messages"]
        ]
        for m, info in zip(q["messages"], results):
            # Above QoS 0 the library keeps what it could not send, for the next connection.
            kept = self.reconnect and m["qos"] > 0 and info.rc == mqtt.MQTT_ERR_NO_CONN
            self.acknowledged((mqtt.MQTT_ERR_SUCCESS if kept else info.rc, info.mid))
        return {}

    def disconnect(self, q):
        self.up = False
        reason = ReasonCodes(PacketTypes.DISCONNECT, identifier=q.get("reason", 0)) if self.v5 else None
        self.client.disconnect(reason)
        self.client.loop_stop()
        # The library keeps three descriptors for as long as the client is there.
        del connections[self.name]
        return {}


def answer(q):
    try:
        if q["do"] == "connect":
            Connection(q)  # on_connect answers
            return
        report(n=q["n"], **getattr(connections[q["conn"]], q["do"])(q))
    except Exception as err:
        report(n=q["n"], error=f"{type(err).__name__}: {err}")


for text in sys.stdin:
    request = json.loads(text)
    threading.Thread(target=answer, args=(request,), daemon=True).start()
os._exit(0)
