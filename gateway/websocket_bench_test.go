package gateway

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

// BenchmarkWebSocketIdle tells what an idle connection costs, in B/conn: the
// goroutine that reads it included, the kernel's part not.
func BenchmarkWebSocketIdle(b *testing.B) {
	const conns = 1000
	for b.Loop() {
		wait := make(chan struct{}, conns)
		address := startWebSocket(b, []string{"/mqtt"}, nil, func(c net.Conn) {
			wait <- struct{}{}
			c.Read(make([]byte, 1))
		})
		clients := make([]net.Conn, conns)
		used := inUse()
		for i := range clients {
			clients[i], _ = net.Dial("tcp", address)
			io.WriteString(clients[i], "GET /mqtt HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==\r\n\r\n")
		}
		for range clients {
			<-wait
		}
		b.ReportMetric(float64(inUse()-used)/conns, "B/conn")
		for _, c := range clients {
			c.Close()
		}
	}
}

func inUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// BenchmarkWebSocketRead reads frames with a PUBLISH of 64 bytes each.
func BenchmarkWebSocketRead(b *testing.B) {
	client, _, server := openWebSocket(b)
	client.SetDeadline(time.Time{})
	wire := bytes.Repeat(frame(frameBinary, make([]byte, 64)), 100)
	go func() { // Ends with the connection.
		for {
			if _, err := client.Write(wire); err != nil {
				return
			}
		}
	}()
	p := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.ReadFull(server, p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWebSocketWrite writes messages of 64 bytes.
func BenchmarkWebSocketWrite(b *testing.B) {
	client, from, server := openWebSocket(b)
	client.SetDeadline(time.Time{})
	go io.Copy(io.Discard, from) // Ends with the connection.
	p := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := server.Write(p); err != nil {
			b.Fatal(err)
		}
	}
}
