package printer

import (
	"fmt"
	"strings"
	"time"

	"github.com/OpenPrinting/goipp"
)

// Name is what programs call the printer.
const Name = "Oriel"

const (
	info  = "Save as PDF on my computer"
	model = "Oriel PDF"
	pdf   = "application/pdf"
)

// formats are the document-formats that are taken.
var formats = []string{pdf, "application/octet-stream"}

// media are the sizes of paper: the names in IPP and in a PPD, and the size in
// hundredths of a millimetre and in points.
var media = []struct {
	ipp, ppd, text string
	width, height  int
	w, h           int
}{
	{"iso_a4_210x297mm", "A4", "A4", 21000, 29700, 595, 842},
	{"na_letter_8.5x11in", "Letter", "US Letter", 21590, 27940, 612, 792},
	{"na_legal_8.5x14in", "Legal", "US Legal", 21590, 35560, 612, 1008},
	{"iso_a3_297x420mm", "A3", "A3", 29700, 42000, 842, 1191},
	{"iso_a5_148x210mm", "A5", "A5", 14800, 21000, 420, 595},
}

// Bits of CUPS's printer-type: black and white, colour, sizes up to A4, up to
// A2, and any other.
const printerType = 0x4 | 0x8 | 0x200 | 0x400 | 0x1000

// uri gives the address of something of the printer.
func (p *Printer) uri(path string) string { return "ipp://" + p.host + path }

// attributes gives those of the printer: what RFC 8011 requires, and what
// libcups, GTK and Qt ask for.
func (p *Printer) attributes() goipp.Attributes {
	var sizes []string
	var database []goipp.Collection
	for _, m := range media {
		sizes = append(sizes, m.ipp)
		database = append(database, goipp.Collection{
			goipp.MakeAttrCollection("media-size", number("x-dimension", goipp.TagInteger, m.width), number("y-dimension", goipp.TagInteger, m.height)),
			number("media-top-margin", goipp.TagInteger, 0), number("media-bottom-margin", goipp.TagInteger, 0),
			number("media-left-margin", goipp.TagInteger, 0), number("media-right-margin", goipp.TagInteger, 0),
		})
	}
	collections := func(name string, list []goipp.Collection) goipp.Attribute {
		a := goipp.Attribute{Name: name}
		for _, c := range list {
			a.Values.Add(goipp.TagBeginCollection, c)
		}
		return a
	}
	return goipp.Attributes{
		attr("printer-uri-supported", goipp.TagURI, p.uri("/printers/"+Name)),
		attr("uri-authentication-supported", goipp.TagKeyword, "requesting-user-name"),
		attr("uri-security-supported", goipp.TagKeyword, "none"),
		attr("printer-name", goipp.TagName, Name),
		attr("printer-info", goipp.TagText, info),
		attr("printer-location", goipp.TagText, "PDF on my computer"),
		attr("printer-make-and-model", goipp.TagText, model),
		attr("printer-device-id", goipp.TagText, "MFG:Oriel;MDL:PDF;CMD:PDF;"),
		attr("device-uri", goipp.TagURI, "oriel:/"),
		number("printer-type", goipp.TagEnum, printerType),
		number("printer-state", goipp.TagEnum, 3), // idle
		attr("printer-state-reasons", goipp.TagKeyword, "none"),
		attr("printer-state-message", goipp.TagText, ""),
		number("printer-state-change-time", goipp.TagInteger, int(p.started.Unix())),
		number("printer-up-time", goipp.TagInteger, int(time.Now().Unix())), // as of CUPS: the time of day,
		boolean("printer-is-accepting-jobs", true),
		boolean("printer-is-shared", false),
		boolean("printer-is-temporary", false),
		number("queued-job-count", goipp.TagInteger, 0),
		attr("auth-info-required", goipp.TagKeyword, "none"),

		attr("charset-configured", goipp.TagCharset, "utf-8"),
		attr("charset-supported", goipp.TagCharset, "utf-8"),
		attr("natural-language-configured", goipp.TagLanguage, "en"),
		attr("generated-natural-language-supported", goipp.TagLanguage, "en"),
		attr("ipp-versions-supported", goipp.TagKeyword, "1.1", "2.0"),
		attr("compression-supported", goipp.TagKeyword, "none"),
		attr("pdl-override-supported", goipp.TagKeyword, "not-attempted"),
		attr("document-format-default", goipp.TagMimeType, pdf),
		attr("document-format-supported", goipp.TagMimeType, formats...),
		boolean("multiple-document-jobs-supported", false),
		number("multiple-operation-time-out", goipp.TagInteger, 600),
		number("operations-supported", goipp.TagEnum, int(goipp.OpPrintJob), int(goipp.OpValidateJob), int(goipp.OpCreateJob), int(goipp.OpSendDocument),
			int(goipp.OpCancelJob), int(goipp.OpGetJobAttributes), int(goipp.OpGetJobs), int(goipp.OpGetPrinterAttributes),
			int(goipp.OpCupsGetDefault), int(goipp.OpCupsGetPrinters), int(goipp.OpCupsGetClasses)),
		attr("job-creation-attributes-supported", goipp.TagKeyword, "copies", "media", "media-col", "sides"),

		attr("media-default", goipp.TagKeyword, sizes[0]),
		attr("media-supported", goipp.TagKeyword, sizes...),
		attr("media-ready", goipp.TagKeyword, sizes...),
		collections("media-col-default", database[:1]),
		collections("media-col-ready", database),
		collections("media-col-database", database),
		number("media-top-margin-supported", goipp.TagInteger, 0),
		number("media-bottom-margin-supported", goipp.TagInteger, 0),
		number("media-left-margin-supported", goipp.TagInteger, 0),
		number("media-right-margin-supported", goipp.TagInteger, 0),
		boolean("color-supported", true),
		number("copies-default", goipp.TagInteger, 1),
		goipp.MakeAttr("copies-supported", goipp.TagRange, goipp.Range{Lower: 1, Upper: 1}),
		attr("sides-default", goipp.TagKeyword, "one-sided"),
		attr("sides-supported", goipp.TagKeyword, "one-sided"),
		attr("job-sheets-default", goipp.TagName, "none", "none"),
		attr("job-sheets-supported", goipp.TagName, "none"),
		number("finishings-default", goipp.TagEnum, 3),
		number("finishings-supported", goipp.TagEnum, 3), // none
		number("orientation-requested-default", goipp.TagEnum, 3),
		number("orientation-requested-supported", goipp.TagEnum, 3, 4), // portrait, landscape
		number("print-quality-default", goipp.TagEnum, 4),
		number("print-quality-supported", goipp.TagEnum, 4), // normal
	}
}

// ppd describes the same printer to programs that ask in the older way.
var ppd = makePPD()

func makePPD() string {
	var b strings.Builder
	b.WriteString(`*PPD-Adobe: "4.3"
*FormatVersion: "4.3"
*FileVersion: "1.0"
*LanguageVersion: English
*LanguageEncoding: ISOLatin1
*PCFileName: "ORIEL.PPD"
*Product: "(Oriel PDF)"
*Manufacturer: "Oriel"
*ModelName: "` + model + `"
*ShortNickName: "` + model + `"
*NickName: "` + model + `"
*PSVersion: "(3010.000) 0"
*LanguageLevel: "3"
*ColorDevice: True
*DefaultColorSpace: RGB
*FileSystem: False
*Throughput: "1"
*TTRasterizer: Type42
*cupsFilter2: "application/pdf application/pdf 0 -"
`)
	for _, keyword := range []string{"PageSize", "PageRegion"} {
		fmt.Fprintf(&b, "*OpenUI *%s/Media Size: PickOne\n*OrderDependency: 10 AnySetup *%s\n*Default%s: %s\n", keyword, keyword, keyword, media[0].ppd)
		for _, m := range media {
			fmt.Fprintf(&b, "*%s %s/%s: \"<</PageSize[%d %d]>>setpagedevice\"\n", keyword, m.ppd, m.text, m.w, m.h)
		}
		fmt.Fprintf(&b, "*CloseUI: *%s\n", keyword)
	}
	fmt.Fprintf(&b, "*DefaultImageableArea: %s\n*DefaultPaperDimension: %s\n", media[0].ppd, media[0].ppd)
	for _, m := range media {
		fmt.Fprintf(&b, "*ImageableArea %s/%s: \"0 0 %d %d\"\n*PaperDimension %s/%s: \"%d %d\"\n", m.ppd, m.text, m.w, m.h, m.ppd, m.text, m.w, m.h)
	}
	b.WriteString("*DefaultFont: Courier\n*Font Courier: Standard \"(1.05)\" Standard ROM\n")
	return b.String()
}
