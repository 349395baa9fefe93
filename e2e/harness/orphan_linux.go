package harness

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the system kill the child when the tests are killed or
// time out, which run no clean-up.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
