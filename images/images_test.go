package images_test

import (
	"encoding/json/v2"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/images"
)

// TestDockerfile compares the Dockerfile with image.json, which it must repeat: a Dockerfile cannot read it.
func TestDockerfile(t *testing.T) {
	var head struct {
		Name        string   `json:"name"`
		Platform    string   `json:"platform"`
		DisplayName string   `json:"displayName"`
		Description string   `json:"description"`
		Released    string   `json:"released"`
		Suite       string   `json:"suite"`
		Changes     []string `json:"changes"`
	}
	if err := json.Unmarshal(read(t, "image.json"), &head); err != nil {
		t.Fatal(err)
	}
	dockerfile := strings.ReplaceAll(string(read(t, "Dockerfile")), "\\\n\t", "")
	for _, change := range head.Changes {
		if !strings.Contains(dockerfile, "\n"+change+"\n") {
			t.Errorf("the Dockerfile lacks the line %s", change)
		}
	}
	if !strings.Contains(dockerfile, "FROM debian:"+head.Suite) {
		t.Errorf("the Dockerfile is not from debian:%s", head.Suite)
	}
	got := map[string]string{}
	for _, m := range regexp.MustCompile(`oriel\.image\.([a-z-]+)="([^"]*)"`).FindAllStringSubmatch(dockerfile, -1) {
		got[m[1]] = m[2]
	}
	want := map[string]string{
		"name": head.Name, "platform": head.Platform, "display-name": head.DisplayName,
		"description": head.Description, "released": head.Released,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("labels (-image.json +Dockerfile):\n%s", diff)
	}
}

// TestFilesParse finds the typing mistakes that would show as a desktop without a menu or a wallpaper.
func TestFilesParse(t *testing.T) {
	err := fs.WalkDir(images.Debian12(), "files", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data := read(t, name)
		switch {
		case strings.HasSuffix(name, ".xml"), strings.HasSuffix(name, "local.conf"):
			checkXML(t, name, string(data))
		case strings.HasSuffix(name, ".png"):
			config, err := png.DecodeConfig(strings.NewReader(string(data)))
			plain := strings.HasSuffix(name, "-plain.png") // is a tile
			if err != nil || !plain && (config.Width < 1920 || config.Height < 1080) {
				t.Errorf("%s is %d×%d (%v)", name, config.Width, config.Height, err)
			}
		case strings.HasPrefix(string(data), "#!"):
			shell := strings.TrimPrefix(strings.SplitN(string(data), "\n", 2)[0], "#!")
			cmd := exec.Command(shell, "-n")
			cmd.Stdin = strings.NewReader(string(data))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestMenu runs the script that makes the desktop's menu: what makes an image is in it for whoever builds one only.
func TestMenu(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "menu")
	id := "#!/bin/sh\necho \"$WHO\"\n"
	if err := errors.Join(os.WriteFile(script, read(t, "files/etc/oriel/menu"), 0o755), os.WriteFile(filepath.Join(dir, "id"), []byte(id), 0o755)); err != nil {
		t.Fatal(err)
	}
	for who, admin := range map[string]bool{"ImageBuilderAdmin": true, "as2-streaming-user": false} {
		cmd := exec.Command("sh", script)
		cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "WHO=" + who}
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		checkXML(t, "the menu", string(out))
		if text := string(out); strings.Contains(text, "/etc/oriel/create-image") != admin || strings.Contains(text, "sudo") != admin || !strings.Contains(text, "/etc/oriel/applications") {
			t.Errorf("%s: %s", who, out)
		}
	}
}

// TestApplicationsMenu runs the script that makes the menu over desktop entries good and bad.
func TestApplicationsMenu(t *testing.T) {
	home := t.TempDir()
	script := filepath.Join(home, "applications.sh")
	if err := os.WriteFile(script, read(t, "files/etc/oriel/applications"), 0o755); err != nil {
		t.Fatal(err)
	}
	entries := map[string]string{
		"plain":       "[Desktop Entry]\nType=Application\nName=T1 Plain\nName[de]=T1 Einfach\nExec=plain --open %U\n",
		"escapes":     "[Desktop Entry]\r\nType = Application\r\nName= T2 <&\"\r\nExec=sh -c \"a && b 100%%\" %f\r\n",
		"no-newline":  "[Desktop Entry]\nType=Application\nName=T3 Last\nExec=last",
		"terminal":    "# comment\n[Desktop Entry]\nType=Application\nName=T4 Terminal\nExec=top\nTerminal=true\n",
		"actions":     "[Desktop Entry]\nType=Application\nName=T5 Actions\nExec=act\n[Desktop Action new]\nName=T5 New\nExec=act --new\n",
		"hidden":      "[Desktop Entry]\nType=Application\nName=T6\nExec=x\nNoDisplay=true\n",
		"other":       "[Desktop Entry]\nType=Application\nName=T7\nExec=x\nOnlyShowIn=GNOME;\n",
		"link":        "[Desktop Entry]\nType=Link\nName=T8\nURL=http://example.com\n",
		"no-command":  "[Desktop Entry]\nType=Application\nName=T9\n",
		"not-entry":   "Name=T10\nExec=x\nType=Application\n",
		"plain-again": "[Desktop Entry]\nType=Application\nName=T1 Plain\nExec=plain --open %F\n",
	}
	dir := filepath.Join(home, ".local", "share", "applications")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range entries {
		if err := os.WriteFile(filepath.Join(dir, name+".desktop"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", script)
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	checkXML(t, "the menu", string(out))
	var menu struct {
		Items []struct {
			Label   string `xml:"label,attr"`
			Command string `xml:"action>command"`
		} `xml:"item"`
	}
	if err := xml.Unmarshal(out, &menu); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, item := range menu.Items {
		if strings.HasPrefix(item.Label, "T") && len(item.Label) > 1 && item.Label[1] >= '0' && item.Label[1] <= '9' {
			got = append(got, item.Label+": "+item.Command)
		}
	}
	want := []string{
		"T1 Plain: plain --open",
		`T2 <&": sh -c "a && b 100%"`,
		"T3 Last: last",
		"T4 Terminal: xterm -e top",
		"T5 Actions: act",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("menu (-want +got):\n%s", diff)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := fs.ReadFile(images.Debian12(), name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func checkXML(t *testing.T, name, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
	}
}
