package vectors_test

import (
	"strconv"
	"strings"
)

// streamVectors are what comes from GET /revocations, in all spellings that
// Server-Sent Events have, and some that they have not.
func streamVectors() []streamVector {
	ages := func(age int) (list [16]int) {
		for p := range list {
			list[p] = age
		}
		return list
	}
	text := func(age int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(strconv.Itoa(age)+",", 16), ",") + "]"
	}
	const sid = "q6.2F5uQdw0khr5SaFjY0mKKQ"
	plain := `{"clock":5,"ages":` + text(7) + `,"denied":[{"kind":"sid","id":"` + sid + `","until":1763950375}]}`
	read := frame{5, ages(7), []denial{{"sid", sid, 1763950375}}, ""}
	marked := read
	marked.Mark = "17"
	empty := frame{6, ages(-1), []denial{}, ""}
	long := strings.Repeat("x", 1000)

	return []streamVector{
		{Name: "nothing", Frames: []frame{}},
		{Name: "plain", Stream: "id: 17\ndata: " + plain + "\n\n", Frames: []frame{marked}},
		{Name: "CRLF", Stream: "id: 17\r\ndata: " + plain + "\r\n\r\n", Frames: []frame{marked}},
		{Name: "no space after the colon", Stream: "id:17\ndata:" + plain + "\n\n", Frames: []frame{marked}},
		{Name: "two spaces after the colon", Stream: "data:  " + plain + "\n\n", Frames: []frame{read}},
		{Name: "comments and unknown fields", Stream: ": hello\n\nevent: x\nretry: 5\n:\ndata: " + plain + "\nfoo\n\n", Frames: []frame{read}},
		{
			Name: "several data lines", Stream: "data: " + strings.ReplaceAll(plain, ",\"denied\"", "\ndata: ,\"denied\"") + "\n\n",
			Frames: []frame{read},
		},
		{Name: "empty lines", Stream: "\n\n\r\ndata: " + plain + "\n\n\n\n", Frames: []frame{read}},
		{Name: "cut off in the middle", Stream: "data: " + plain + "\n\nid: 18\ndata: {\"clock\":6", Frames: []frame{read}},
		{Name: "cut off before the empty line", Stream: "data: " + plain + "\n\nid: 18\ndata: {\"clock\":6}\n", Frames: []frame{read}},
		{
			Name: "the mark stays", Stream: "id: 17\ndata: " + plain + "\n\ndata: {\"clock\":6}\n\n",
			Frames: []frame{marked, {6, ages(-1), []denial{}, "17"}},
		},
		{
			Name: "an id without data", Stream: "id: 16\n\nid: 17\ndata: {\"clock\":6}\n\n",
			Frames: []frame{{6, ages(-1), []denial{}, "17"}},
		},
		{Name: "unknown members and kinds", Stream: `data: {"later":{"a":[]},"clock":6,"denied":[{"kind":"later","id":"x","until":9,"why":"?"}]}` + "\n\n", Frames: []frame{{6, ages(-1), []denial{{"later", "x", 9}}, ""}}},
		{Name: "unknown age", Stream: `data: {"clock":5,"ages":` + strings.Replace(text(7), "7", "-1", 1) + "}\n\n", Frames: []frame{{5, func() [16]int { a := ages(7); a[0] = -1; return a }(), []denial{}, ""}}},
		{Name: "nulls", Stream: `data: {"clock":6,"ages":null,"denied":null}` + "\n\n", Frames: []frame{empty}},
		{Name: "two ages", Stream: `data: {"clock":5,"ages":[7,7]}` + "\n\n", Frames: []frame{{5, func() [16]int { a := ages(-1); a[0], a[1] = 7, 7; return a }(), []denial{}, ""}}},
		{Name: "an age that is null", Stream: `data: {"clock":5,"ages":` + strings.Replace(text(7), "7", "null", 1) + "}\n\n", Frames: []frame{{5, func() [16]int { a := ages(7); a[0] = -1; return a }(), []denial{}, ""}}},
		{Name: "17 ages", Stream: `data: {"clock":5,"ages":` + strings.Replace(text(7), "]", ",9]", 1) + "}\n\n", Frames: []frame{{5, ages(7), []denial{}, ""}}},
		{Name: "characters of several bytes", Stream: `data: {"clock":6,"denied":[{"kind":"jti","id":"é😀` + long + `","until":9}]}` + "\n\n", Frames: []frame{{6, ages(-1), []denial{{"jti", "é😀" + long, 9}}, ""}}},
		{Name: "not JSON", Stream: "data: " + plain + "\n\ndata: {\n\n", Frames: []frame{read}, Broken: true},
		{Name: "empty data", Stream: "data:\n\n", Frames: []frame{}, Broken: true},
		{Name: "an array", Stream: "data: []\n\n", Frames: []frame{}, Broken: true},
		{Name: "ages of text", Stream: `data: {"ages":["7"]}` + "\n\n", Frames: []frame{}, Broken: true},
		{Name: "ages an object", Stream: `data: {"ages":{}}` + "\n\n", Frames: []frame{}, Broken: true},
		{Name: "a fraction of a millisecond", Stream: `data: {"clock":1.5}` + "\n\n", Frames: []frame{}, Broken: true},
		{Name: "an id that is a number", Stream: `data: {"denied":[{"kind":"sid","id":7,"until":9}]}` + "\n\n", Frames: []frame{}, Broken: true},
		{Name: "until as text", Stream: `data: {"denied":[{"kind":"sid","id":"x","until":"9"}]}` + "\n\n", Frames: []frame{}, Broken: true},
		{Name: "a line without an end", Stream: "data: ", Repeat: 1 << 18, Frames: []frame{}, Broken: true},
	}
}
