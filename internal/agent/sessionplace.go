package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// zoneLink is the symbolic link to the session's time zone. On an instance for
// one person it is the instance's own: programs that have started already
// follow it, which they do not do with a file that TZ names.
func (s *session) zoneLink() string {
	if s.agent.config.MaxSessions == 1 {
		return s.agent.paths.localtime
	}
	return filepath.Join(s.seat.dir, "localtime")
}

// zoneEnv names the link to programs, unless it is where they look anyway.
func (s *session) zoneEnv() []string {
	link := s.zoneLink()
	if link == s.agent.paths.localtime {
		return nil
	}
	if err := replaceLink(s.agent.zone, link); err != nil {
		s.fail("The session has no time zone: %v", err)
		return nil
	}
	return []string{"TZ=:" + link}
}

// setTimeZone has programs of the session use a zone of the image.
func (s *session) setTimeZone(zone string) error {
	file, err := zoneFile(s.agent.paths.zones, zone)
	if err != nil {
		return err
	}
	return replaceLink(file, s.zoneLink())
}

var zoneName = regexp.MustCompile(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,3}$`)

// zoneFile finds a time zone such as Europe/Berlin.
func zoneFile(dir, zone string) (string, error) {
	if len(zone) > 64 || !zoneName.MatchString(zone) {
		return "", fmt.Errorf("%.64q is not the name of a time zone", zone)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("the image has no time zones: %w", err)
	}
	defer root.Close()
	f, err := root.Open(zone)
	if err != nil {
		return "", fmt.Errorf("the image does not know the time zone %s", zone)
	}
	defer f.Close()
	magic := make([]byte, 4)
	if _, err := io.ReadFull(f, magic); err != nil || string(magic) != "TZif" {
		return "", fmt.Errorf("the image does not know the time zone %s", zone)
	}
	return filepath.Join(dir, zone), nil
}

// replaceLink points a symbolic link elsewhere, at once.
func replaceLink(target, link string) error {
	if err := os.Remove(link + ".new"); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.Symlink(target, link+".new"); err != nil {
		return err
	}
	return os.Rename(link+".new", link)
}

// resetInstance takes back what a session changes on an instance of its own.
func (a *agent) resetInstance() error {
	err := os.Remove(a.paths.userProfile)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, replaceLink(a.zone, a.paths.localtime))
}

var languageName = regexp.MustCompile(`^[a-zA-Z]{2,3}(_[A-Z]{2})?(\.[A-Za-z0-9-]+)?(@[a-z]+)?$`)

// languageEnv sets the session's language, if the image has it.
func (a *agent) languageEnv(s *session) []string {
	if !languageName.MatchString(s.spec.Locale) {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, time.Second)
	defer cancel()
	if !hasLocale(a.installedLocales(ctx), s.spec.Locale) {
		s.log.Info("the image does not have the language", "locale", s.spec.Locale)
		return nil
	}
	return []string{"LANG=" + s.spec.Locale, "LANGUAGE="}
}

// installedLocales asks the C library for its locales.
func (a *agent) installedLocales(ctx context.Context) []string {
	r, w, err := os.Pipe()
	if err != nil {
		return nil
	}
	defer r.Close()
	p, err := a.procs.start(command{argv: []string{a.paths.localeList, "-a"}, dir: "/", env: []string{"LC_ALL=C"}, files: []*os.File{nil, w, nil}})
	w.Close()
	if err != nil {
		return nil
	}
	defer context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Unix(1, 0)) })()
	text, _ := io.ReadAll(io.LimitReader(r, 64<<10))
	a.procs.end(p, endGrace)
	return strings.Fields(string(text))
}

// hasLocale looks for name in a list in which character sets are written in
// another way: C.utf8.
func hasLocale(list []string, name string) bool {
	plain := func(s string) string {
		language, set, _ := strings.Cut(s, ".")
		return language + "." + strings.ReplaceAll(strings.ToLower(set), "-", "")
	}
	for _, l := range list {
		if plain(l) == plain(name) {
			return true
		}
	}
	return false
}
