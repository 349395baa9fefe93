package harness

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
)

// Ports are taken from a range below those that systems give to connections:
// while a process that is to come back on its port is down, no connection of
// another gets it. Test processes begin at different places of the range.
const (
	firstPort = 20_000
	portCount = 12_000
	portStep  = 150 // between the first ports of two test processes
)

var nextPort atomic.Int64

// freePorts finds loopback addresses on which nobody listens, and which this
// process has not had before.
func freePorts(n int) ([]string, error) {
	var ports []string
	for tries := 0; len(ports) < n; tries++ {
		if tries == portCount {
			return nil, errors.New("harness: no port is free")
		}
		offset := (int64(os.Getpid())*portStep + nextPort.Add(1)) % portCount
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+offset)
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		l.Close()
		ports = append(ports, address)
	}
	return ports, nil
}
