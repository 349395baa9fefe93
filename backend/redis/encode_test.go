package redis

import (
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

func TestSubscriptionEncoding(t *testing.T) {
	for qos := range byte(3) {
		for handling := range byte(3) {
			for _, id := range []uint32{0, 1, 268_435_455} {
				for flags := range 4 {
					sub := backend.Subscription{
						Filter: "a/+", QoS: qos, RetainHandling: handling, ID: id,
						NoLocal: flags&1 != 0, RetainAsPublished: flags&2 != 0,
					}
					got, err := decodeSubscription(sub.Filter, encodeSubscription(sub))
					if err != nil || got != sub {
						t.Errorf("%+v came back as %+v, %v", sub, got, err)
					}
					replay := backend.Replay{Subscription: sub, After: "a/b"}
					list, err := decodeReplays(reply{"a/+", encodeReplay(sub) + "a/b"})
					if err != nil || len(list) != 1 || list[0] != replay {
						t.Errorf("%+v came back as %+v, %v", replay, list, err)
					}
				}
			}
		}
	}
}

var changes = []*change{
	{client: "c", prev: 1, ver: 2},
	{client: "", ver: 1 << 52, gone: true},
	{
		client: backend.ClientID(strings.Repeat("}", 65_535)), prev: 7, ver: 8, whole: true, durable: true, box: "BOX", node: "n:1", epoch: 9,
		set:     []backend.Subscription{{Filter: "a/+", QoS: 2, ID: 5}, {Filter: "$share/g/é", NoLocal: true}},
		deleted: []string{"x", ""},
	},
}

func TestChangeEncoding(t *testing.T) {
	for _, c := range changes {
		b := string(c.encode())
		got, err := decodeChange(b)
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%+v came back as %+v, %v", c, got, err)
		}
		for i := range b {
			if len(b) > 1000 && i%1000 != 0 {
				continue
			}
			if _, err := decodeChange(b[:i]); err == nil {
				t.Errorf("%d of %d bytes are taken for a change", i, len(b))
			}
		}
	}
	if _, err := decodeChange("\x02\x00"); err == nil {
		t.Error("a change of another version is taken for one")
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range changes[:2] {
		f.Add(string(c.encode()))
	}
	e := backend.Entry{Message: &backend.Message{Topic: "a", Payload: []byte("x"), QoS: 1}, QoS: 1, Share: "$share/g/a"}
	f.Add(string(appendElement(nil, &e)))
	f.Add("q1 20 " + string(appendElement(nil, &e)))
	f.Add("w1700000000000 30 5 owner" + string(backend.AppendMessage(nil, e.Message)))
	f.Add("1 2 3 4 5 6 node with spaces")
	f.Fuzz(func(t *testing.T, text string) {
		// What other programs have written must not stop this one.
		if c, err := decodeChange(text); err == nil {
			if again, err := decodeChange(string(c.encode())); err != nil || !reflect.DeepEqual(again, c) {
				t.Errorf("%+v came back as %+v, %v", c, again, err)
			}
		}
		_, _ = decodeElement(text, 1)
		_, _ = decodeChore("c", "id", text)
		_, _ = decodeHeader(text)
		_, _ = decodeReceipt(text)
		_, _ = decodeRetained(text)
		_, _ = decodeReplays(reply{"a", text})
		_, _ = decodeSubscriptions(reply{"a", text})
	})
}
