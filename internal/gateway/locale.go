package gateway

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what is looked at in an Accept-Language header.
const (
	maxAcceptLanguage = 512 // bytes
	maxLanguages      = 16
)

// languageTag is a language, perhaps a script, perhaps a region: de, de-AT, zh-Hant-TW.
var languageTag = regexp.MustCompile(`^([A-Za-z]{2,3})(?:-[A-Za-z]{4})?(?:-([A-Za-z]{2}))?$`)

// regions has the region of a language that is not called like it. Browsers often name a language alone.
var regions = map[string]string{
	"ar": "EG", "be": "BY", "bn": "BD", "ca": "ES", "cs": "CZ", "cy": "GB", "da": "DK", "el": "GR", "en": "US", "et": "EE", "eu": "ES",
	"fa": "IR", "ga": "IE", "gl": "ES", "he": "IL", "hi": "IN", "hy": "AM", "ja": "JP", "ka": "GE", "kk": "KZ", "ko": "KR", "ms": "MY",
	"nb": "NO", "nn": "NO", "sl": "SI", "sq": "AL", "sr": "RS", "sv": "SE", "ta": "IN", "te": "IN", "uk": "UA", "ur": "PK", "vi": "VN", "zh": "CN",
}

// locale gives the POSIX name, like de_DE.UTF-8, of the language that a browser prefers by its Accept-Language header; "" when it
// does not say. Whether the image has it is for the agent to see.
func locale(header string) string {
	if len(header) > maxAcceptLanguage {
		header = header[:maxAcceptLanguage]
	}
	type wish struct {
		name    string
		quality float64
	}
	var wishes []wish
	for part := range strings.SplitSeq(header, ",") {
		if len(wishes) == maxLanguages {
			break
		}
		tag, parameter, _ := strings.Cut(part, ";")
		m := languageTag.FindStringSubmatch(strings.TrimSpace(tag))
		if m == nil {
			continue
		}
		w := wish{quality: 1}
		if q, ok := strings.CutPrefix(strings.TrimSpace(parameter), "q="); ok {
			var err error
			if w.quality, err = strconv.ParseFloat(q, 64); err != nil || !(w.quality > 0 && w.quality <= 1) {
				continue
			}
		}
		language, region := strings.ToLower(m[1]), strings.ToUpper(m[2])
		if region == "" {
			region = regions[language]
		}
		if region == "" {
			region = strings.ToUpper(language)
		}
		if len(region) != 2 {
			continue
		}
		w.name = language + "_" + region + ".UTF-8"
		wishes = append(wishes, w)
	}
	if len(wishes) == 0 {
		return ""
	}
	slices.SortStableFunc(wishes, func(a, b wish) int { return cmp.Compare(b.quality, a.quality) })
	return wishes[0].name
}
