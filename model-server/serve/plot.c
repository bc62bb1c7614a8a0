/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/serve/plot.h"

#include <math.h>
#include <string.h>

#define TICKS  4
#define LEFT   46.0
#define RIGHT  10.0
#define TOP    10.0
#define BOTTOM 30.0

/* Failures of writing stick to `out`. */
#define PUT(...) ((void)buf_printf(out, __VA_ARGS__))

void html_text(struct buf *out, const char *text)
{
        for (; *text; text++) {
                switch (*text) {
                case '&':
                        (void)buf_puts(out, "&amp;");
                        break;
                case '<':
                        (void)buf_puts(out, "&lt;");
                        break;
                case '>':
                        (void)buf_puts(out, "&gt;");
                        break;
                case '"':
                        (void)buf_puts(out, "&quot;");
                        break;
                case '\'':
                        (void)buf_puts(out, "&#39;");
                        break;
                default:
                        if ((unsigned char)*text >= ' ')
                                (void)buf_append(out, text, 1);
                }
        }
}

struct axis {
        double min, max, step;
};

/* 1, 2 or 5 times a power of ten between ticks. */
static struct axis make_axis(double min, double max)
{
        double span = max - min > 1e-9 ? max - min : fmax(fabs(max), 1) * 0.1, magnitude, step;

        magnitude = pow(10, floor(log10(span / TICKS)));
        step = span / TICKS / magnitude;
        step = (step > 5 ? 10 : step > 2 ? 5 : step > 1 ? 2 : 1) * magnitude;
        return (struct axis){ floor(min / step) * step, ceil((min + span) / step) * step, step };
}

static double part(const struct axis *a, double v)
{
        return (v - a->min) / (a->max - a->min);
}

static double value(const json_t *points, size_t i, size_t what)
{
        return json_number_value(json_array_get(json_array_get(points, i), what));
}

static struct axis watts_axis(const json_t *points)
{
        double min = INFINITY, max = -INFINITY;

        for (size_t i = 0; i < json_array_size(points); i++)
                for (size_t what = 1; what <= 2; what++) {
                        min = fmin(min, value(points, i, what));
                        max = fmax(max, value(points, i, what));
                }
        return make_axis(min, max);
}

static void begin(struct buf *out, double width, double height, const char *title)
{
        PUT("<svg viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"", width, height);
        html_text(out, title);
        PUT("\"><title>");
        html_text(out, title);
        PUT("</title>");
}

static void horizontal_grid(struct buf *out, const struct axis *a, double width, double height)
{
        for (double v = a->min; v <= a->max + a->step / 2; v += a->step) {
                double y = height - BOTTOM - part(a, v) * (height - TOP - BOTTOM);

                PUT("<path class=\"grid\" d=\"M%g %.1fH%g\"/><text x=\"%g\" y=\"%.1f\" "
                    "class=\"end\">%g</text>",
                    LEFT, y, width - RIGHT, LEFT - 6, y + 3.5, round(v * 1e6) / 1e6);
        }
}

void plot_scatter(struct buf *out, const json_t *points, const char *title)
{
        const double size = 260;
        struct axis a = watts_axis(points);

        begin(out, size, size, title);
        horizontal_grid(out, &a, size, size);
        for (double v = a.min; v <= a.max + a.step / 2; v += a.step) {
                double x = LEFT + part(&a, v) * (size - LEFT - RIGHT);

                PUT("<path class=\"grid\" d=\"M%.1f %gV%g\"/><text x=\"%.1f\" y=\"%g\" "
                    "class=\"mid\">%g</text>",
                    x, TOP, size - BOTTOM, x, size - BOTTOM + 14, round(v * 1e6) / 1e6);
        }
        PUT("<path class=\"ideal\" d=\"M%g %gL%g %g\"/><g class=\"dots\">", LEFT, size - BOTTOM, size - RIGHT,
            TOP);
        for (size_t i = 0; i < json_array_size(points); i++)
                PUT("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\"/>",
                    LEFT + part(&a, value(points, i, 1)) * (size - LEFT - RIGHT),
                    size - BOTTOM - part(&a, value(points, i, 2)) * (size - TOP - BOTTOM));
        PUT("</g><text x=\"%g\" y=\"%g\" class=\"mid label\">measured W</text>"
            "<text transform=\"translate(11 %g) rotate(-90)\" class=\"mid label\">estimated W</text></svg>",
            LEFT + (size - LEFT - RIGHT) / 2, size - 2, TOP + (size - TOP - BOTTOM) / 2);
}

static void line(struct buf *out, const json_t *points, size_t what, const struct axis *a, double width,
                 double height)
{
        size_t n = json_array_size(points);

        PUT("<polyline class=\"%s\" points=\"", what == 1 ? "measured" : "estimated");
        for (size_t i = 0; i < n; i++)
                PUT("%s%.1f,%.1f", i ? " " : "",
                    LEFT + (n > 1 ? (double)i / (double)(n - 1) : 0.5) * (width - LEFT - RIGHT),
                    height - BOTTOM - part(a, value(points, i, what)) * (height - TOP - BOTTOM));
        PUT("\"/>");
}

void plot_time(struct buf *out, const json_t *points, const char *title)
{
        const double width = 620, height = 260;
        struct axis a = watts_axis(points);
        size_t n = json_array_size(points);

        begin(out, width, height, title);
        horizontal_grid(out, &a, width, height);
        line(out, points, 1, &a, width, height);
        line(out, points, 2, &a, width, height);
        PUT("<text x=\"%g\" y=\"%g\" class=\"label\">the last %zu rows in their order; W</text>", LEFT,
            height - 8, n);
        PUT("<g transform=\"translate(%g %g)\"><path class=\"measured\" d=\"M0 -4H18\"/><text x=\"23\" "
            "class=\"label\">measured"
            "</text><path class=\"estimated\" d=\"M90 -4H108\"/><text x=\"113\" "
            "class=\"label\">estimated</text></g></svg>",
            width - RIGHT - 170, height - 8);
}
