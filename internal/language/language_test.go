package language

import (
	"html/template"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func asks(header, cookies string) *http.Request {
	r := httptest.NewRequest("GET", "/stream/s1", nil)
	r.Header.Set("Accept-Language", header)
	if cookies != "" {
		r.Header.Set("Cookie", cookies)
	}
	return r
}

func TestOf(t *testing.T) {
	for header, want := range map[string]string{"": "en", "de": "de", "de-CH,en;q=0.9": "de", "fr,en;q=0.5,de;q=0.9": "de", "xx": "en", "en,de": "en", "de;q=0,en;q=0.1": "en", "de;q=x": "en",
		strings.Repeat("fr,", 1000) + "de": "en", "*": "en", "gsw-CH,fr;q=0.9": "de", "de\x00,it": "en", "en-AU,de;q=0.9": "en", "../../x,de": "de"} {
		if got := Of(asks(header, "")); got != want {
			t.Errorf("%.40q: %s, want %s", header, got, want)
		}
	}
	for cookies, want := range map[string]string{"oriel-language=de": "de", "oriel-language=xx": "en", "oriel-language=": "en", "oriel-language=xx; oriel-language=de": "de", "other=de": "en"} {
		if got := Of(asks("en", cookies)); got != want {
			t.Errorf("%s: %s, want %s", cookies, got, want)
		}
	}
}

func TestLocale(t *testing.T) {
	for header, want := range map[string]string{
		"": "", "*": "", "de-DE,de;q=0.9,en-US;q=0.8": "de_DE.UTF-8", "de,en-US;q=0.7,en;q=0.3": "de_DE.UTF-8", "en": "en_US.UTF-8",
		"fr;q=0.5, sv;q=0.8": "sv_SE.UTF-8", "zh-Hant-TW": "zh_TW.UTF-8", "zh-Hans": "zh_CN.UTF-8", "pt-br": "pt_BR.UTF-8", "en;q=0,ja": "ja_JP.UTF-8", "x-klingon, nds": "nds_DE.UTF-8",
		"../../x,C": "", "de;q=NaN,fr": "fr_FR.UTF-8", strings.Repeat("x", 600) + ",de": "", "de\x00,it": "it_IT.UTF-8", "es-419": "es_ES.UTF-8", "uk": "uk_UA.UTF-8", "nb": "nb_NO.UTF-8",
	} {
		if got := Locale(asks(header, "")); got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
	// What was chosen comes first, as the browser has it if it has it.
	for header, want := range map[string]string{"": "de_DE.UTF-8", "en-US,en": "de_DE.UTF-8", "en,de-AT": "de_AT.UTF-8"} {
		if got := Locale(asks(header, "oriel-language=de")); got != want {
			t.Errorf("%q and German: %q, want %q", header, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	ask := func(method, target, dest string) *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequest(method, target, nil)
		r.Header.Set("Sec-Fetch-Dest", dest)
		if chose := Choose(w, r, r.TLS != nil); chose != (w.Code == http.StatusSeeOther) {
			t.Errorf("%s %s: %t, and the status is %d", method, target, chose, w.Code)
		}
		return w
	}
	for _, none := range []*httptest.ResponseRecorder{ask("GET", "/stream/s1", ""), ask("POST", "/stream/s1?lang=de", ""), ask("GET", "/stream/s1?lang=", "")} {
		if none.Code != http.StatusOK || len(none.Result().Cookies()) > 0 {
			t.Errorf("nobody has chosen: %d, %v", none.Code, none.Header())
		}
	}
	w := ask("GET", "/portal/reset?code=s%26cret&lang=de", "")
	if to := w.Header().Get("Location"); to != "/portal/reset?code=s%26cret" || w.Body.Len() > 0 {
		t.Errorf("the browser goes to %s, with %q", to, w.Body)
	}
	for target, want := range map[string]http.Cookie{
		"http://oriel.test/stream/s1?lang=de":  {Value: "de", SameSite: http.SameSiteLaxMode},
		"https://oriel.test/stream/s1?lang=de": {Value: "de", SameSite: http.SameSiteNoneMode, Secure: true, Partitioned: true},
	} {
		c := ask("GET", target, "iframe").Result().Cookies()[0]
		if c.Value != want.Value || c.SameSite != want.SameSite || c.Secure != want.Secure || c.Partitioned != want.Partitioned || c.Path != "/" || !c.HttpOnly || c.MaxAge == 0 {
			t.Errorf("%s in a frame: %v", target, c)
		}
	}
	if c := ask("GET", "https://oriel.test/portal?lang=de", "document").Result().Cookies()[0]; c.SameSite != http.SameSiteLaxMode || c.Partitioned || !c.Secure {
		t.Errorf("on a page: %v", c)
	}
	if c := ask("GET", "/stream/s1?lang=../../x", "").Result().Cookies(); len(c) > 0 {
		t.Errorf("a language that there is not is remembered: %v", c)
	}
}

func TestText(t *testing.T) {
	w := Words{"en": {"hello": "Hello %s", "plain": "100 %"}}
	if got := w.Text("en", "hello", "Grace"); got != "Hello Grace" {
		t.Error(got)
	}
	if got := w.Text("en", "plain"); got != "100 %" {
		t.Error(got)
	}
	defer func() {
		if recover() == nil {
			t.Error("a text that there is not is no error")
		}
	}()
	w.Text("de", "hello")
}

// Whatever a browser says, there is an answer in a language that there is, and a locale that is one.
func FuzzAcceptLanguage(f *testing.F) {
	for _, seed := range []string{"", "de", "de-AT;q=0.5, en;q=0.1", "*;q=", ";;,,;q=1e309", "de;q=NaN", "de;q=-1,en", "de-DE,de;q=0.9,en-US;q=0.8,*;q=0.1"} {
		f.Add(seed, "")
	}
	f.Add("en", "oriel-language=de")
	f.Fuzz(func(t *testing.T, header, cookies string) {
		r := asks(header, cookies)
		if got := Of(r); !Known(got) {
			t.Errorf("%q, %q: %q", header, cookies, got)
		}
		if got := Locale(r); got != "" && (len(got) > 12 || !strings.HasSuffix(got, ".UTF-8") || strings.ContainsAny(got, "/\n ")) {
			t.Errorf("%q, %q gave %q", header, cookies, got)
		}
	})
}

func TestFuncs(t *testing.T) {
	w := Words{"en": {"hint": "%s & %s <go>", "name": "Name"}, "de": {"hint": "%s & %s <los>", "name": "Name"}}
	var out strings.Builder
	page := template.Must(template.New("").Funcs(w.Funcs("de")).Parse(`<p lang="{{language}}">{{tag "b" "hint" "<i>" 7}} {{t "name"}} {{len languages}}</p>`))
	if err := page.Execute(&out, nil); err != nil || out.String() != `<p lang="de"><b>&lt;i&gt;</b> &amp; <b>7</b> &lt;los&gt; Name 2</p>` {
		t.Error(err, out.String())
	}
}
