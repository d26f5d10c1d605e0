package gateway

import (
	"net/http"
	"regexp"
	"strings"
)

// Everything comes from this server. data: images are the frames and cursors that noVNC decodes.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors "

// hostName is what may stand in a content policy: nothing in it has a meaning there.
var hostName = regexp.MustCompile(`^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$`)

// allowFrames lets pages of the hosts, and of no others, show the answer in a frame: over https, and on the person's own computer
// over http too, for those who build such a page. It must be called before the answer begins.
func allowFrames(w http.ResponseWriter, hosts []string) {
	var sources []string
	for _, host := range hosts {
		if len(host) > 253 || !hostName.MatchString(host) {
			continue
		}
		sources = append(sources, "https://"+host+":*")
		if host == "localhost" || strings.HasSuffix(host, ".localhost") || host == "127.0.0.1" {
			sources = append(sources, "http://"+host+":*")
		}
	}
	if len(sources) == 0 {
		return
	}
	h := w.Header()
	h.Set("Content-Security-Policy", contentPolicy+strings.Join(sources, " "))
	h.Del("X-Frame-Options") // it knows no hosts, and would forbid what the policy allows
}
