// Package words has the texts of the gateway's pages and answers in every language. What the viewer's scripts say is in web/src/words.
package words

import "github.com/oriel-project/oriel/internal/language"

// All are the texts, by language and key.
var All = language.Words{"en": english, "de": german}
