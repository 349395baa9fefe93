package cluster_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/chaos"
	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// F17: the disk of the append-only file, 3 MiB, is full, and has room again
// later. Meanwhile Redis answers MISCONF to all that writes, and it is as in
// F09. With "appendfsync always" it would end itself, and that is F09.
func TestF17DiskFull(t *testing.T) {
	if !soaking {
		t.Skip("a soak test: E2E_SOAK=1")
	}
	t.Parallel()
	disk := smallDisk(t)
	c := harness.StartCluster(t, harness.ClusterOptions{Env: settings(), Redis: []string{"--dir", disk, "--appendfsync", "everysec"}})
	run := chaos.NewRun(c.Balancer.Address()) // load would fill the disk before its time
	t.Cleanup(run.Close)
	for i, v := range []wire.Version{wire.V5, wire.V311} {
		run.Subscribe(chaos.Subscriber{Name: fmt.Sprint("s", i), Version: v,
			Filters: []wire.Filter{{Topic: run.Topic("t/#"), Options: byte(1 + i)}}})
	}
	if !run.AwaitSubscribed(20 * time.Second) {
		t.Fatal("not everybody could subscribe")
	}
	for i, v := range []wire.Version{wire.V5, wire.V311, wire.V5, wire.V311} {
		name := fmt.Sprint("p", i)
		run.Publish(chaos.Publisher{Name: name, Version: v, QoS: []byte{1, 2}, Every: 50 * time.Millisecond, Topics: []string{run.Topic("t/" + name)}})
	}
	time.Sleep(time.Second) // of load

	takesNothing(t, c, run, "disk", func(during func()) {
		ballast := filepath.Join(disk, "ballast")
		fill(t, ballast)
		eventually(t, wire.Timeout, "Redis can not write", func() bool {
			return strings.Contains(c.Redis.Do(t, "INFO persistence"), "aof_last_write_status:err")
		})
		during()
		time.Sleep(10 * time.Second) // that is the fault
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	})
}

// smallDisk mounts 3 MiB of memory until the test ends.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("needs the right to mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// fill writes a file until the disk is full.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for piece := make([]byte, 4096); err == nil; {
		_, err = f.Write(piece)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}
