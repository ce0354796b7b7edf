package jinja

// expression is a node of the parsed tree that has a value.
type expression interface {
	eval(s *scope) (Value, error)
}

// statement is a node of the parsed tree that writes or assigns.
type statement interface {
	run(s *scope, out *output) (jump, error)
}

// placed is a statement with the line where it stands.
type placed struct {
	statement
	line int
}

// jump tells how a statement ended.
type jump uint8

const (
	jumpNone jump = iota
	jumpBreak
	jumpContinue
)

// variable is where a name's value lies: hops functions outwards, in a slot.
type variable struct {
	name       string
	hops, slot int
}

type (
	constant     struct{ value Value }
	nameNode     struct{ variable }
	sequenceNode struct {
		items   []expression
		isTuple bool
	}
	dictNode      struct{ keys, values []expression }
	conditionNode struct {
		test, then, otherwise expression // otherwise may be nil
	}
	logicNode struct {
		left, right expression
		or          bool
	}
	notNode     struct{ operand expression }
	compareNode struct {
		first    expression
		operands []comparison
	}
	comparison struct {
		operator string
		operand  expression
	}
	binaryNode struct {
		operator    string
		left, right expression
	}
	signNode struct {
		operand  expression
		negative bool
	}
	joinNode      struct{ items []expression } // ~
	attributeNode struct {
		object expression
		name   string
	}
	itemNode  struct{ object, key expression }
	sliceNode struct{ object, start, stop, step expression } // each bound may be nil
	callNode  struct {
		callee    expression
		arguments *argumentsNode
		line      int
	}
	filterNode struct {
		object    expression // nil stands for the text of the block around
		name      string
		filter    builtin // nil if there is none of this name
		arguments *argumentsNode
		line      int
	}
	testNode struct {
		object    expression
		name      string
		test      builtin // nil if there is none of this name
		arguments *argumentsNode
		line      int
	}
	// bodyNode is the text of a set block or a filter block.
	bodyNode struct {
		body   []placed
		scope  scopeNode
		filter expression // nil for none
	}
)

// argumentsNode are the arguments of a call, a filter or a test; nil stands for none.
type argumentsNode struct {
	positional []expression
	names      []string
	named      []expression
}

// target is what can be assigned to: a name, an attribute of a namespace, or a tuple of targets.
type target struct {
	variable
	attribute string
	items     []*target
	isTuple   bool
}

// scopeNode begins a scope: its loads set variables that the scope has of its own.
type scopeNode struct {
	loads []load
}

type (
	dataNode   struct{ text string }
	outputNode struct{ value expression }
	ifNode     struct {
		test            expression
		body, otherwise []placed
	}
	forNode struct {
		target     *target
		iterable   expression
		test       expression // nil for none
		body       []placed
		otherwise  []placed
		hasElse    bool
		extended   bool     // the body uses loop
		loop       variable // where the loop's own value lies
		bodyScope  scopeNode
		elseScope  scopeNode
		testScope  scopeNode
		testTarget *target
		testSlots  int // of the function that the test is
	}
	assignNode struct {
		target *target
		value  expression
	}
	// functionNode is what macros, call blocks and generation blocks share.
	functionNode struct {
		name       string
		parameters []*target
		defaults   []expression // of the last parameters
		body       []placed
		scope      scopeNode
		slots      int
		caller     int // the slot of what a call block gives; negative where the body has no use for it
	}
	macroNode struct {
		functionNode
		variable variable
	}
	callBlockNode struct {
		functionNode
		call *callNode // nil for a generation block
	}
	jumpNode struct{ jump jump }
)
