// Package calls reads what a model says: reasoning, content, and calls of tools in the format of the model's family, piece by
// piece as the text comes. It is a pure core: text in, deltas out.
//
// What counts as a call:
//   - A format with a marker calls wherever the marker stands, with any name. One without begins with its first character, at
//     the very start of the answer only (white space and reasoning may go before), and only with the name of a tool.
//   - Content is what stands before the first call, without the white space between them. What stands behind or between calls
//     reaches nobody.
//   - Text becomes a call when its name is known and its arguments begin. What goes wrong before that is content, with its
//     marker, as it stands. What goes wrong later leaves a call with the arguments that came.
//   - Nothing within reasoning is a call, and reasoning stands at the start only. If it never ends, all is reasoning.
//
// Arguments that are JSON pass through as they are written, byte by byte; only where they end is looked for, so that they are
// JSON if the model wrote JSON. Missing or null arguments become {}, and a text that holds an object becomes that object. Other
// formats are translated: the XML of Qwen3-Coder by the tool's schema, Python's literals by their own form.
//
// Only what may still belong to a marker or to a call that may turn out to be none is held back, and never more than
// maxHeldBytes; white space waits for what follows it, and a value in XML that is no text for its end (maxValueBytes). No byte
// is looked at more often than a marker is long, so that neither long answers nor hostile ones cost more than their length. How
// the text is cut into pieces changes nothing in what comes out of it.
//
// Not here: ids of calls and the form in which they are sent, which differ by dialect; whether names and arguments fit the
// tools; the channels of gpt-oss. Which special tokens must reach the parser as text, Format.Tokens says.
package calls
