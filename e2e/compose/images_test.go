package compose_test

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The tests pull nothing: each image that the compose file or the Dockerfile
// names is made here of programs of this machine, under that very name.

// programs of the images, by the first part of the name.
var programs = map[string][]string{
	"haproxy": {"haproxy"},
	"redis":   {"redis-server", "redis-cli"},
	"nats":    {"nats-server"},
}

// clientImage has mosquitto_pub, for clients with an address of their own.
const clientImage = "mosquitto-clients"

// fromLine and imageLine find the names.
var (
	fromLine  = regexp.MustCompile(`(?m)^FROM (golang:\S+)`)
	imageLine = regexp.MustCompile(`(?m)^\s*image: (\S+)`)
)

// makeImages makes all of them.
func makeImages(e *engine, compose string) {
	e.t.Helper()
	for _, m := range imageLine.FindAllStringSubmatch(compose, -1) {
		name, _, _ := strings.Cut(m[1], ":")
		if binaries, ok := programs[name]; ok {
			standIn(e, m[1], nil, binaries...)
		}
	}
	standIn(e, clientImage, nil, "mosquitto_pub")
	dockerfile, err := os.ReadFile(filepath.Join(e.root, "Dockerfile"))
	if err != nil {
		e.t.Fatal(err)
	}
	from := fromLine.FindSubmatch(dockerfile)
	if from == nil {
		e.t.Fatal("the Dockerfile builds from no image of Go")
	}
	goroot := strings.TrimSpace(e.run("go", "env", "GOROOT"))
	modules := e.t.TempDir()
	e.run("env", "GOMODCACHE="+modules, "GOFLAGS=-modcacherw", "GOSUMDB=off",
		"GOPROXY=file://"+filepath.ToSlash(e.run("go", "env", "GOMODCACHE"))+"/cache/download", "go", "mod", "download")
	// What is compiled already is not compiled again in the engine.
	cache := filepath.Join(e.root, "bin", "e2e", "gocache")
	e.run("env", "GOCACHE="+cache, "CGO_ENABLED=0", "go", "build", "-trimpath", "-buildvcs=false", "-o", os.DevNull, "./cmd/gateway")
	standIn(e, string(from[1]), map[string]string{
		cache: "/root/.cache/go-build", goroot: "/usr/local/go", modules: "/go/pkg/mod", "/etc/ssl/certs/ca-certificates.crt": "/etc/ssl/certs/ca-certificates.crt",
	})
}

// standIn makes an image of programs with the libraries that they need, of
// BusyBox as shell and wget, and of files and directories of this machine.
func standIn(e *engine, name string, tree map[string]string, binaries ...string) {
	e.t.Helper()
	files := map[string]string{} // here to there
	for _, b := range append(binaries, "busybox") {
		path, err := exec.LookPath(b)
		if err != nil {
			missing(e.t, b)
		}
		files[path] = path
		for _, library := range libraries(path) {
			files[library] = library
		}
	}
	busybox, _ := exec.LookPath("busybox")
	links := map[string]string{"/bin/sh": busybox, "/bin/wget": busybox}
	in, out := io.Pipe()
	go func() { out.CloseWithError(writeTree(out, files, tree, links)) }() // ends with the import
	cmd := exec.Command("docker", "import",
		"--change", "ENV PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"--change", "ENV GOPATH=/go HOME=/root GOTOOLCHAIN=local", "-", name)
	cmd.Env, cmd.Stdin = e.env, in
	if text, err := cmd.CombinedOutput(); err != nil {
		e.t.Fatalf("import %s: %v\n%s", name, err, text)
	}
}

// libraries are those that ldd lists; none for a static program.
func libraries(path string) []string {
	out, err := exec.Command("ldd", path).Output()
	if err != nil {
		return nil
	}
	var all []string
	for _, word := range strings.Fields(string(out)) {
		if strings.HasPrefix(word, "/") {
			all = append(all, word)
		}
	}
	return all
}

// writeTree writes a tar file of files, of whole directories, and of links.
func writeTree(to io.Writer, files, trees, links map[string]string) error {
	w := tar.NewWriter(to)
	for _, d := range []string{"tmp", "data", "root", "etc"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o1777}); err != nil {
			return err
		}
	}
	add := func(here, there string) error {
		f, err := os.Open(here) // follows links
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		h := &tar.Header{Name: strings.TrimPrefix(there, "/"), Mode: int64(info.Mode().Perm()), Size: info.Size(), ModTime: info.ModTime()}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = io.Copy(w, f)
		return err
	}
	for here, there := range files {
		if err := add(here, there); err != nil {
			return err
		}
	}
	for here, there := range links {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: strings.TrimPrefix(here, "/"), Linkname: there}); err != nil {
			return err
		}
	}
	// Of Go's own tree, what a build does not need.
	idle := []string{"test", "api", "doc", "misc", "testdata"}
	for here, there := range trees {
		err := filepath.WalkDir(here, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				if path != here && slices.Contains(idle, d.Name()) && strings.HasPrefix(there, "/usr") {
					return filepath.SkipDir
				}
				return nil
			}
			rest, err := filepath.Rel(here, path)
			if err != nil {
				return err
			}
			return add(path, filepath.Join(there, rest))
		})
		if err != nil {
			return fmt.Errorf("%s: %w", here, err)
		}
	}
	return w.Close()
}

// missing fails where CI is set and skips elsewhere.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing; e2e/compose/install.sh installs it", what)
	}
	t.Skipf("%s is missing; e2e/compose/install.sh installs it", what)
}
