// A library with the functions of the NVIDIA driver that package driver calls. It computes nothing: it checks what a driver checks
// (which cubins a card takes, kernels' names, the sizes of their arguments, limits of launches, bounds of copies, that pointers point to memory), and does what
// streams do late: a copy takes place when a later query finds it done, so that memory which is used again too early shows.
//
// Environment variables say what it is like:
//   CUDA_FAKE_CARDS    NAME:CAPABILITY:MIB:MODE of each card, with ";" between them
//   CUDA_FAKE_VERSION  of the driver, as cuDriverGetVersion says it
//   CUDA_FAKE_FAIL     FUNCTION:CALL:CODE, with ";" between them: so many calls of it succeed, and then one fails; the function
//                      "kernel" fails when the launch is due
//   CUDA_FAKE_BUSY     how many queries each thing in a stream takes
//   CUDA_FAKE_LOG      file for a line of each launch and of other things
// CUDA_VISIBLE_DEVICES is honoured for indices and whole UUIDs.
#define _GNU_SOURCE
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef uint64_t u64;
typedef uint32_t u32;

enum { MOST = 4096, CARDS = 16, PARAMETERS = 33 };
static const u64 OF_CARD = 1ull << 56; // marks addresses of a card, which the host must not read

static const char *variable(const char *name, const char *otherwise) {
	const char *value = getenv(name);
	return value && *value ? value : otherwise;
}

static void note(const char *format, ...) {
	const char *path = getenv("CUDA_FAKE_LOG");
	if (!path || !*path) return;
	char line[4096];
	va_list list;
	va_start(list, format);
	int n = vsnprintf(line, sizeof line - 1, format, list);
	va_end(list);
	line[n++] = '\n';
	FILE *file = fopen(path, "a");
	if (file) fwrite(line, 1, n, file), fclose(file);
}

// Scripted failures.
static int dead; // an error that a context does not survive
static struct { char name[64]; int calls; } counts[64];

static int scripted(const char *function) {
	int i = 0;
	while (i < 63 && *counts[i].name && strcmp(counts[i].name, function)) i++;
	snprintf(counts[i].name, sizeof counts[i].name, "%s", function);
	int call = counts[i].calls++;
	for (const char *at = variable("CUDA_FAKE_FAIL", ""); at && *at; at = strchr(at, ';'), at = at ? at + 1 : 0) {
		char name[64];
		int wanted, code;
		if (sscanf(at, "%63[^:]:%d:%d", name, &wanted, &code) == 3 && !strcmp(name, function) && wanted == call) return code;
	}
	return 0;
}
#define BEGIN do { int code = scripted(__func__); if (code) return code; } while (0)
#define BEGIN_IN_CONTEXT do { if (dead) return dead; if (!current) return 201; BEGIN; } while (0)

// Cards.
static struct { char name[128], uuid[16]; int major, minor, mode; u64 bytes, used; } cards[CARDS];
static int count = -1, taken = -1, current, holders;

static void text_of(const char *uuid, char *to) {
	to += sprintf(to, "GPU-");
	for (int i = 0; i < 16; i++) to += sprintf(to, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", (unsigned char)uuid[i]);
}

static void read_cards(void) {
	const char *at = variable("CUDA_FAKE_CARDS", "Fake H100:9.0:1024:0"), *visible = getenv("CUDA_VISIBLE_DEVICES");
	int all = 0;
	for (; at && *at && all < CARDS; all++) {
		u64 mebibytes;
		if (sscanf(at, "%127[^:]:%d.%d:%lu:%d", cards[all].name, &cards[all].major, &cards[all].minor, &mebibytes, &cards[all].mode) != 5) abort();
		cards[all].bytes = mebibytes << 20;
		memset(cards[all].uuid, 0x10 + all, 16);
		at = strchr(at, ';'), at = at ? at + 1 : 0;
	}
	count = all;
	if (!visible) return;
	typeof(cards[0]) seen[CARDS];
	char list[1024], *rest = list, *one;
	snprintf(list, sizeof list, "%s", visible);
	for (count = 0; (one = strsep(&rest, ","));) {
		int found = -1;
		for (int i = 0; i < all; i++) {
			char uuid[64], index[16];
			text_of(cards[i].uuid, uuid), sprintf(index, "%d", i);
			if (!strcmp(one, uuid) || !strcmp(one, index)) found = i;
		}
		if (found < 0) break; // as the driver does: what follows is not seen either
		seen[count++] = cards[found];
	}
	memcpy(cards, seen, count * sizeof seen[0]);
}

int cuInit(u32 flags) { BEGIN; read_cards(); return flags ? 1 : count ? 0 : 100; }
int cuDriverGetVersion(int *version) { BEGIN; *version = atoi(variable("CUDA_FAKE_VERSION", "12090")); return 0; }
static const struct { int code; const char *name, *text; } results[] = {
	{1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"}, {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
	{46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
	{100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}, {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available"},
	{222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
	{500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"}, {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
	{999, "CUDA_ERROR_UNKNOWN", "unknown error"}};
int cuGetErrorName(int code, const char **to) {
	for (u32 i = 0; i < sizeof results / sizeof *results; i++) if (results[i].code == code) { *to = results[i].name; return 0; }
	*to = 0;
	return 1;
}
int cuGetErrorString(int code, const char **to) {
	for (u32 i = 0; i < sizeof results / sizeof *results; i++) if (results[i].code == code) { *to = results[i].text; return 0; }
	*to = 0;
	return 1;
}
int cuDeviceGetCount(int *to) { BEGIN; if (count < 0) return 3; *to = count; return 0; }
int cuDeviceGet(int *to, int index) { BEGIN; if (index < 0 || index >= count) return 101; *to = index; return 0; }
int cuDeviceGetName(char *to, int bytes, int d) { BEGIN; snprintf(to, bytes, "%s", cards[d].name); return 0; }
int cuDeviceGetUuid_v2(char *to, int d) { BEGIN; memcpy(to, cards[d].uuid, 16); return 0; }
int cuDeviceTotalMem_v2(u64 *to, int d) { BEGIN; *to = cards[d].bytes; return 0; }
int cuDeviceGetAttribute(int *to, int attribute, int d) {
	BEGIN;
	switch (attribute) {
	case 16: *to = 132; return 0;
	case 20: *to = cards[d].mode; return 0;
	case 75: *to = cards[d].major; return 0;
	case 76: *to = cards[d].minor; return 0;
	case 97: *to = cards[d].major == 9 ? 232448 : 101376; return 0;
	}
	return 1;
}

// Contexts.
int cuDevicePrimaryCtxRetain(u64 *to, int d) {
	BEGIN;
	if (cards[d].mode == 2) return 46;
	char uuid[64];
	text_of(cards[d].uuid, uuid);
	note("context on %s", uuid);
	taken = d, holders++, *to = 42;
	return 0;
}
int cuCtxSetCurrent(u64 context) { BEGIN; current = context == 42; return current ? 0 : 201; }

// Memory. All of a card's lies in the host's, at addresses that are marked.
static struct { u64 at, bytes; } areas[MOST], pinned[8];
static int inside(u64 at, u64 bytes) {
	for (int i = 0; i < MOST; i++) if (areas[i].bytes && at >= areas[i].at && at + bytes <= areas[i].at + areas[i].bytes) return 1;
	return 0;
}
static int is_pinned(u64 at, u64 bytes) {
	for (int i = 0; i < 8; i++) if (pinned[i].bytes && at >= pinned[i].at && at + bytes <= pinned[i].at + pinned[i].bytes) return 1;
	return 0;
}
static u64 mapped(u64 bytes) {
	void *p = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? 0 : (u64)p;
}
int cuMemGetInfo_v2(u64 *free, u64 *total) { BEGIN_IN_CONTEXT; *total = cards[taken].bytes, *free = *total - cards[taken].used; return 0; }
int cuMemAlloc_v2(u64 *to, u64 bytes) {
	BEGIN_IN_CONTEXT;
	if (!bytes) return 1;
	if (cards[taken].used + bytes > cards[taken].bytes) return 2;
	for (int i = 0; i < MOST; i++) if (!areas[i].bytes) {
		u64 at = mapped(bytes);
		if (!at) return 2;
		areas[i].at = at | OF_CARD, areas[i].bytes = bytes, cards[taken].used += bytes;
		*to = areas[i].at;
		return 0;
	}
	return 2;
}
int cuMemFree_v2(u64 at) {
	BEGIN_IN_CONTEXT;
	for (int i = 0; i < MOST; i++) if (areas[i].bytes && areas[i].at == at) {
		munmap((void *)(at & ~OF_CARD), areas[i].bytes);
		cards[taken].used -= areas[i].bytes, areas[i].bytes = 0;
		return 0;
	}
	return 1;
}
int cuMemsetD8Async(u64 at, unsigned char value, u64 bytes, u64 stream) {
	BEGIN_IN_CONTEXT;
	if (!inside(at, bytes) || stream != 77) return 1;
	memset((void *)(at & ~OF_CARD), value, bytes);
	return 0;
}

// Handles are given, and opened by nobody: ranks must do without.
struct handle { char bytes[64]; };
int cuIpcGetMemHandle(struct handle *to, u64 at) {
	BEGIN_IN_CONTEXT;
	if (!inside(at, 1)) return 1;
	memset(to, 7, sizeof *to);
	return 0;
}
int cuIpcOpenMemHandle_v2(u64 *to, struct handle handle, u32 flags) {
	BEGIN_IN_CONTEXT;
	for (int i = 0; i < 64; i++) if (handle.bytes[i] != 7) return 1;
	if (flags != 1) return 1;
	return 217;
}

int cuMemHostRegister_v2(u64 at, u64 bytes, u32 flags) {
	BEGIN_IN_CONTEXT;
	return at % 4096 || bytes % 4096 || flags != 3 ? 1 : 0;
}
int cuMemHostGetDevicePointer_v2(u64 *to, u64 at, u32 flags) {
	BEGIN_IN_CONTEXT;
	*to = at;
	return flags ? 1 : 0;
}

int cuMemHostAlloc(u64 *to, u64 bytes, u32 flags) {
	BEGIN_IN_CONTEXT;
	if (flags & ~7) return 1;
	for (int i = 0; i < 8; i++) if (!pinned[i].bytes) {
		*to = pinned[i].at = mapped(bytes), pinned[i].bytes = bytes;
		return *to ? 0 : 2;
	}
	return 2;
}
int cuMemFreeHost(u64 at) {
	BEGIN_IN_CONTEXT;
	for (int i = 0; i < 8; i++) if (pinned[i].bytes && pinned[i].at == at) {
		munmap((void *)at, pinned[i].bytes), pinned[i].bytes = 0;
		return 0;
	}
	return 1;
}

// The stream: what was put in is done one by one, by queries.
static struct { u64 to, from, bytes; int kernel; } queue[MOST];
static u64 put, done, asked;
static struct { int kernels, executable; } graphs[256]; // from 1 on
static int graph_count, capturing;                      // the graph to which launches go; 0: they run
static const u64 STREAM = 77;

static int enqueue(u64 to, u64 from, u64 bytes, int kernel) {
	if (put - done >= MOST) return 2;
	typeof(queue[0]) *q = &queue[put++ % MOST];
	q->to = to, q->from = from, q->bytes = bytes, q->kernel = kernel;
	return 0;
}
static void advance(void) {
	if (done == put || ++asked <= (u64)atoi(variable("CUDA_FAKE_BUSY", "1"))) return;
	typeof(queue[0]) *q = &queue[done++ % MOST];
	asked = 0;
	if (!q->kernel) memcpy((void *)(q->to & ~OF_CARD), (void *)(q->from & ~OF_CARD), q->bytes);
	else if ((dead = scripted("kernel"))) done = put;
}
int cuStreamCreateWithPriority(u64 *to, u32 flags, int priority) { BEGIN_IN_CONTEXT; *to = STREAM; return flags == 1 && !priority ? 0 : 1; }
int cuStreamDestroy_v2(u64 s) { BEGIN_IN_CONTEXT; return s == STREAM ? 0 : 400; }
int cuStreamQuery(u64 s) {
	BEGIN_IN_CONTEXT;
	if (s != STREAM) return 400;
	if (capturing) return 900;
	advance();
	return dead ? dead : done == put ? 0 : 600;
}
static u64 events[8];
static int event_count;
int cuEventCreate(u64 *to, u32 flags) { BEGIN_IN_CONTEXT; if (event_count == 8) return 2; *to = 100 + event_count++; return flags == 2 ? 0 : 1; }
int cuEventDestroy_v2(u64 e) { BEGIN_IN_CONTEXT; return e - 100 < 8 ? 0 : 400; }
int cuEventRecord(u64 e, u64 s) { BEGIN_IN_CONTEXT; if (e - 100 >= 8 || s != STREAM) return 400; events[e - 100] = put; return 0; }
int cuEventQuery(u64 e) {
	BEGIN_IN_CONTEXT;
	if (e - 100 >= 8) return 400;
	if (done < events[e - 100]) advance();
	return dead ? dead : done >= events[e - 100] ? 0 : 600;
}
int cuMemcpyHtoDAsync_v2(u64 to, u64 from, u64 bytes, u64 s) {
	BEGIN_IN_CONTEXT;
	if (capturing) return 900;
	if (s != STREAM || !inside(to, bytes) || !is_pinned(from, bytes)) return 1;
	return enqueue(to, from, bytes, 0);
}
int cuMemcpyDtoHAsync_v2(u64 to, u64 from, u64 bytes, u64 s) {
	BEGIN_IN_CONTEXT;
	if (capturing) return 900;
	if (s != STREAM || !inside(from, bytes) || !is_pinned(to, bytes)) return 1;
	return enqueue(to, from, bytes, 0);
}

// Modules and kernels.
struct function { char name[64]; int count, sizes[PARAMETERS]; u32 dynamic; };
static struct { char *image; char target[16]; } modules[16];
static int module_count;

static Elf64_Shdr *section(char *image, const char *name) {
	Elf64_Ehdr *head = (Elf64_Ehdr *)image;
	Elf64_Shdr *all = (Elf64_Shdr *)(image + head->e_shoff);
	for (int i = 0; i < head->e_shnum; i++) if (!strcmp(image + all[head->e_shstrndx].sh_offset + all[i].sh_name, name)) return &all[i];
	return 0;
}
static u64 size_of(char *image) {
	Elf64_Ehdr *head = (Elf64_Ehdr *)image;
	Elf64_Shdr *all = (Elf64_Shdr *)(image + head->e_shoff);
	u64 bytes = head->e_shoff + head->e_shnum * sizeof *all;
	for (int i = 0; i < head->e_shnum; i++)
		if (all[i].sh_type != SHT_NOBITS && all[i].sh_offset + all[i].sh_size > bytes) bytes = all[i].sh_offset + all[i].sh_size;
	return bytes;
}
// A cubin's flags tell its compute capability: in the lowest byte, or since compute capability 10 in the next; a bit of the lowest
// says that it is specific.
static int load_cubin(char *image, char *target) {
	u32 flags = ((Elf64_Ehdr *)image)->e_flags, old = (flags & 255) >= 50;
	int number = old ? flags & 255 : flags >> 8 & 255, specific = old ? flags >> 11 & 1 : flags >> 3 & 1;
	int major = number / 10, minor = number % 10;
	sprintf(target, "sm_%d%s", number, specific ? "a" : "");
	if (major != cards[taken].major || minor > cards[taken].minor || specific && minor != cards[taken].minor) return 209;
	return 0;
}
int cuModuleLoadDataEx(u64 *to, char *image, u32 options, int *names, u64 *values) {
	BEGIN_IN_CONTEXT;
	if (options != 2 || names[0] != 5 || names[1] != 6 || values[1] < 100 || module_count == 16) return 1;
	char *target = modules[module_count].target;
	if (!memcmp(image, ELFMAG, SELFMAG)) {
		int code = load_cubin(image, target);
		if (code) return code;
	} else {
		char *version = strstr(image, "\n.version ");
		int major, minor;
		if (!version || sscanf(version, "\n.version %d.%d", &major, &minor) != 2) return 218;
		sprintf(target, "ptx");
		if (atoi(variable("CUDA_FAKE_VERSION", "12090")) < 12000 + 10 * (minor + 1)) { // PTX 8.8 came with CUDA 12.9
			snprintf((char *)values[0], values[1], "the assembler speaks of .version %d.%d", major, minor);
			return 222;
		}
	}
	note("module %s", target);
	u64 bytes = memcmp(image, ELFMAG, SELFMAG) ? strlen(image) + 1 : size_of(image);
	modules[module_count].image = memcpy(malloc(bytes), image, bytes); // the caller's is his own again
	*to = 200 + module_count++;
	return 0;
}
int cuModuleUnload(u64 m) { BEGIN_IN_CONTEXT; return m - 200 < (u64)module_count ? 0 : 400; }

// A cubin's section .nv.info.KERNEL has a record of each parameter: 0x1704, its bytes, and in them the parameter's number and size.
static void parameters(char *image, struct function *f) {
	char name[128];
	snprintf(name, sizeof name, ".nv.info.%s", f->name);
	Elf64_Shdr *s = section(image, name);
	for (u64 at = 0; s && at + 4 <= s->sh_size;) {
		unsigned char *record = (unsigned char *)image + s->sh_offset + at;
		int number = record[8] | record[9] << 8;
		if (record[0] == 4 && record[1] == 0x17 && number < PARAMETERS) {
			f->sizes[number] = *(u32 *)(record + 12) >> 18;
			if (number >= f->count) f->count = number + 1;
		}
		at += record[0] == 4 ? 4 + (record[2] | record[3] << 8) : 4;
	}
}
int cuModuleGetFunction(u64 *to, u64 m, const char *name) {
	BEGIN_IN_CONTEXT;
	if (m - 200 >= (u64)module_count) return 400;
	char *image = modules[m - 200].image, text[128];
	struct function *f = calloc(1, sizeof *f);
	snprintf(f->name, sizeof f->name, "%s", name);
	f->dynamic = 48 << 10, f->count = -1;
	if (!memcmp(image, ELFMAG, SELFMAG)) {
		snprintf(text, sizeof text, ".text.%s", name);
		if (!section(image, text)) return 500;
		f->count = 0, parameters(image, f);
	} else {
		snprintf(text, sizeof text, ".entry %s(", name);
		if (!strstr(image, text)) return 500;
	}
	*to = (u64)f;
	return 0;
}
int cuFuncGetAttribute(int *to, int attribute, struct function *f) { BEGIN_IN_CONTEXT; *to = 1024; return attribute == 1 ? 0 : 1; }
int cuFuncSetAttribute(struct function *f, int attribute, int value) {
	BEGIN_IN_CONTEXT;
	if (attribute != 8 || value + 1024 > (cards[taken].major == 9 ? 232448 : 101376)) return 1;
	f->dynamic = value;
	note("shared %s %d", f->name, value);
	return 0;
}
struct config { u32 grid[3], block[3], shared; u64 stream; void *attributes; u32 attribute_count; };
int cuLaunchKernelEx(struct config *c, struct function *f, u64 **arguments, void **extra) {
	BEGIN_IN_CONTEXT;
	if (c->stream != STREAM || extra || c->attribute_count > 1) return 400;
	if (c->attribute_count && (*(u32 *)c->attributes != 6 || ((u32 *)c->attributes)[2] != 1 || cards[taken].major < 9)) return 801;
	for (int i = 0; i < 3; i++) if (!c->grid[i] || !c->block[i]) return 1;
	if (c->grid[1] > 65535 || c->grid[2] > 65535 || c->block[0] * c->block[1] * c->block[2] > 1024 || c->shared > f->dynamic) return 1;
	char line[2048];
	int n = sprintf(line, "launch %s grid %u,%u,%u threads %u,%u,%u shared %u:", f->name, c->grid[0], c->grid[1], c->grid[2], c->block[0],
		c->block[1], c->block[2], c->shared), given = 0;
	for (; arguments[given]; given++) { // package driver puts a null behind the last
		u64 value = *arguments[given];
		if (given < f->count && f->sizes[given] == 4 && value >> 32) return 1;
		if (value >> 56 == 1 && !inside(value, 1)) return 1; // an address of no memory
		n += sprintf(line + n, " %lx", value);
	}
	if (f->count >= 0 && given != f->count) {
		note("%s has %d parameters, and %d were given", f->name, f->count, given);
		return 1;
	}
	if (c->attribute_count) n += sprintf(line + n, " overlapping");
	if (capturing) n += sprintf(line + n, " captured"), graphs[capturing].kernels++;
	note("%s", line);
	return capturing ? 0 : enqueue(0, 0, 0, 1);
}

// Graphs.
int cuStreamBeginCapture_v2(u64 s, int mode) {
	BEGIN_IN_CONTEXT;
	if (s != STREAM || mode != 1 || capturing || graph_count == 255) return 1;
	capturing = ++graph_count, graphs[capturing].kernels = graphs[capturing].executable = 0;
	return 0;
}
int cuStreamEndCapture(u64 s, u64 *to) {
	BEGIN_IN_CONTEXT;
	if (s != STREAM || !capturing) return 1;
	*to = 500 + capturing, capturing = 0;
	return 0;
}
int cuGraphInstantiateWithFlags(u64 *to, u64 g, u64 flags) {
	BEGIN_IN_CONTEXT;
	if (g <= 500 || g > 500 + (u64)graph_count || flags) return 1;
	graphs[g - 500].executable = 1, *to = g + 500;
	return 0;
}
int cuGraphDestroy(u64 g) { BEGIN_IN_CONTEXT; return g <= 500 || g > 500 + (u64)graph_count; }
int cuGraphLaunch(u64 x, u64 s) {
	BEGIN_IN_CONTEXT;
	if (s != STREAM || capturing || x <= 1000 || x > 1000 + (u64)graph_count || !graphs[x - 1000].executable) return 1;
	note("graph of %d", graphs[x - 1000].kernels);
	int code = 0;
	for (int i = 0; i < graphs[x - 1000].kernels && !code; i++) code = enqueue(0, 0, 0, 1);
	return code;
}
int cuDevicePrimaryCtxRelease_v2(int d) {
	BEGIN;
	if (d != taken || !holders) return 201;
	note("context released");
	if (--holders) return 0;
	for (int i = 0; i < MOST; i++) if (areas[i].bytes) munmap((void *)(areas[i].at & ~OF_CARD), areas[i].bytes), areas[i].bytes = 0;
	for (int i = 0; i < 8; i++) if (pinned[i].bytes) munmap((void *)pinned[i].at, pinned[i].bytes), pinned[i].bytes = 0;
	while (module_count) free(modules[--module_count].image);
	cards[d].used = 0, event_count = 0, put = done = 0, current = 0, graph_count = capturing = 0;
	return 0;
}
