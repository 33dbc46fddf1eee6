package strictjson

import (
	"fmt"
	"strings"
)

// FieldError says which member has a value that cannot be taken, and why. It
// holds the name the caller asked for and never any part of the input.
type FieldError struct {
	Field   string // the member's name, as the caller spells it
	Problem string // for example "must be a string"
}

func (e *FieldError) Error() string {
	return fmt.Sprintf("strictjson: member %q %s", e.Field, e.Problem)
}

// Decode reads members of the JSON object in data into variables. Fields maps
// exact member names to *string, *bool, *int64 or *[]string; a name mapped to
// nil must not be present. Other types are a fault of the caller, and panic.
//
// A variable whose member is absent keeps its value, so that a default can be
// set beforehand. Members that are not in fields are ignored, unless they
// differ from one that is only in letter case: encoding/json would have taken
// them for it. Null is a wrong type: it is neither a value nor absence.
//
// Decode fails as [Members] does, or with a *[FieldError]. The variables'
// values are then unspecified.
func Decode(data []byte, fields map[string]any) error {
	return Members(data, func(name string, value []byte) error {
		if into, known := fields[name]; known {
			return assign(name, into, value)
		}
		for field := range fields {
			if strings.EqualFold(field, name) {
				return &FieldError{field, "is spelled with other upper and lower case"}
			}
		}
		return nil
	})
}

func assign(field string, into any, value []byte) error {
	var ok bool
	var want string
	switch p := into.(type) {
	case nil:
		want = "must not be present"
	case *string:
		*p, ok = String(value)
		want = "must be a string"
	case *bool:
		*p, ok = Bool(value)
		want = "must be true or false"
	case *int64:
		*p, ok = Int(value)
		want = "must be a whole number"
	case *[]string:
		*p, ok = Strings(value)
		want = "must be an array of strings"
	default:
		panic(fmt.Sprintf("strictjson: cannot decode into %T", into))
	}
	if !ok {
		return &FieldError{field, want}
	}
	return nil
}
