#!/usr/bin/env python3
"""Writes a C program that calls every function of the header with NULL for every pointer.

Functions with a status have to answer NULL_POINTER, the others nothing at all: none may crash. What may take
NULL is listed here, so that a new function has to be thought about.
"""
import re
import sys

header, sources = sys.argv[1], sys.argv[2:]
text = re.sub(r"//[^\n]*|/\*.*?\*/", "", open(header).read(), flags=re.S)
prototypes = re.findall(r"\n([a-z_0-9 ]+?[ *]+)(fidibus_[a-z_0-9]+)\(([^)]*)\);", text)
# Have no pointer, or may take NULL for all of them.
fine = {"fidibus_log_set", "fidibus_log_set_level"}

print('#include "check.h"\n\nint main(void) {')
for result, name, arguments in prototypes:
    values = []
    for argument in re.split(r",\s*", " ".join(arguments.split())):
        if argument == "void":
            continue
        pointer = "*" in argument or re.match(r"fidibus_(callback|finalizer|wake|log_callback)\b", argument)
        values.append("NULL" if pointer else "1")
    call = f"{name}({', '.join(values)})"
    if result.strip() != "fidibus_status" or name == "fidibus_error_status":
        print(f"    (void){call};" if result.strip() != "void" else f"    {call};")
    elif name in fine:
        print(f"    OK({call});")
    else:
        print(f"    STATUS(NULL_POINTER, {call});")
print(f'    printf("  ok {len(prototypes)} functions take NULL\\n");\n    return 0;\n}}')

written = "".join(open(source).read() for source in sources)
unused = [name for _, name, _ in prototypes if not re.search(rf"\b{name}\(", written)]
statuses = re.findall(r"FIDIBUS_STATUS_([A-Z0-9_]+) = ", text)
# Cannot be brought about from C: src/border.rs and src/status.rs test them.
elsewhere = {"PANIC", "UNLOADED", "MATERIALIZE"}
missing = [s for s in statuses if s not in elsewhere and not re.search(rf"(STATUS\({s},|FIDIBUS_STATUS_{s}\b|\b{s}\b)", written)]
if unused or missing:
    sys.exit(f"no C test uses {unused}, nor brings about {missing}")
