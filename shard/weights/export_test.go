package weights

// ParseGGUF reads a GGUF file that is in memory.
func ParseGGUF(data []byte) error { return (&Model{}).openGGUF(data) }
