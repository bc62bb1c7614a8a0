/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/chart.h"

#include <math.h>

#define WIDTH  900.0
#define HEIGHT 420.0
#define LEFT   60.0
#define RIGHT  20.0
#define TOP    60.0
#define BOTTOM 60.0
#define TICKS  5

static const char *const colours[4] = { "#8da0cb", "#66c2a5", "#1b7837", "#d95f02" };

static void begin(struct buf *out, const char *title)
{
        (void)buf_printf(out,
                         "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" "
                         "font-family=\"sans-serif\" font-size=\"12\">\n"
                         "<rect width=\"%g\" height=\"%g\" fill=\"white\"/>\n"
                         "<text x=\"%g\" y=\"22\" font-size=\"16\">%s</text>\n",
                         WIDTH, HEIGHT, WIDTH, HEIGHT, LEFT, title);
}

static double at_y(double v, double low, double high)
{
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (v - low) / (high - low);
}

static double at_x(double v, double low, double high)
{
        return LEFT + (WIDTH - LEFT - RIGHT) * (v - low) / (high - low);
}

/* 1, 2 or 5 times a power of ten. */
static double tick_of(double range)
{
        double raw = range / TICKS, power = pow(10, floor(log10(raw))), x = raw / power;

        return power * (x > 5 ? 10 : x > 2 ? 5 : x > 1 ? 2 : 1);
}

static void draw_axis(struct buf *out, double low, double high, const char *unit)
{
        double tick = tick_of(high - low);

        for (double v = ceil(low / tick) * tick; v <= high; v += tick)
                (void)buf_printf(out,
                                 "<path d=\"M%g %.1fH%g\" stroke=\"#ddd\"/><text x=\"%g\" y=\"%.1f\" "
                                 "text-anchor=\"end\">%g</text>\n",
                                 LEFT, at_y(v, low, high), WIDTH - RIGHT, LEFT - 6, at_y(v, low, high) + 4,
                                 v);
        (void)buf_printf(out, "<text x=\"8\" y=\"%g\">%s</text>\n", TOP - 12, unit);
}

static void draw_legend(struct buf *out, const char *const *legend, size_t n)
{
        for (size_t i = 0; i < n && legend[i]; i++)
                (void)buf_printf(
                        out,
                        "<rect x=\"%g\" y=\"32\" width=\"10\" height=\"10\" fill=\"%s\"/><text x=\"%g\" "
                        "y=\"42\">%s</text>\n",
                        LEFT + 200 * (double)i, colours[i], LEFT + 200 * (double)i + 15, legend[i]);
}

void chart_bars(struct buf *out, const char *title, const char *unit, const char *const legend[4],
                const struct chart_bar *bars, size_t n)
{
        double high = 1e-9, group = (WIDTH - LEFT - RIGHT) / (double)(n > 0 ? n : 1), width = group / 5.5;

        for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < 4; k++)
                        high = fmax(high, bars[i].values[k] * 1.08); /* fmax() passes NaN over */
        begin(out, title);
        draw_axis(out, 0, high, unit);
        draw_legend(out, legend, 4);
        for (size_t i = 0; i < n; i++) {
                double x = LEFT + group * (double)i + width * 0.75;

                for (size_t k = 0; k < 4; k++) {
                        double v = bars[i].values[k], y = at_y(v, 0, high);

                        if (!isfinite(v))
                                continue;
                        (void)buf_printf(
                                out,
                                "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>"
                                "<text x=\"%.1f\" y=\"%.1f\" font-size=\"9\" text-anchor=\"middle\">%.1f"
                                "</text>\n",
                                x + width * (double)k, y, width * 0.92, HEIGHT - BOTTOM - y, colours[k],
                                x + width * ((double)k + 0.5), y - 3, v);
                }
                (void)buf_printf(
                        out, "<text x=\"%.1f\" y=\"%g\" font-size=\"11\" text-anchor=\"middle\">%s</text>\n",
                        LEFT + group * ((double)i + 0.5), HEIGHT - BOTTOM + 18, bars[i].label);
        }
        (void)buf_puts(out, "</svg>\n");
}

static void range_of(const double *v, size_t n, double *low, double *high)
{
        for (size_t i = 0; i < n; i++) {
                *low = fmin(*low, v[i]);
                *high = fmax(*high, v[i]);
        }
}

void chart_scatter(struct buf *out, const char *title, const double *measured, const double *estimated,
                   size_t n)
{
        double low = INFINITY, high = -INFINITY;

        range_of(measured, n, &low, &high);
        range_of(estimated, n, &low, &high);
        high += high > low ? 0 : 1;
        begin(out, title);
        draw_axis(out, low, high, "estimated, W (across: measured, W)");
        (void)buf_printf(out, "<path d=\"M%.1f %.1fL%.1f %.1f\" stroke=\"#999\"/>\n", at_x(low, low, high),
                         at_y(low, low, high), at_x(high, low, high), at_y(high, low, high));
        for (double v = ceil(low / tick_of(high - low)) * tick_of(high - low); v <= high;
             v += tick_of(high - low))
                (void)buf_printf(out, "<text x=\"%.1f\" y=\"%g\" text-anchor=\"middle\">%g</text>\n",
                                 at_x(v, low, high), HEIGHT - BOTTOM + 18, v);
        for (size_t i = 0; i < n; i++)
                (void)buf_printf(
                        out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"1.6\" fill=\"%s\" fill-opacity=\".5\"/>\n",
                        at_x(measured[i], low, high), at_y(estimated[i], low, high), colours[2]);
        (void)buf_puts(out, "</svg>\n");
}

static void draw_line(struct buf *out, const double *v, size_t n, double low, double high, const char *colour)
{
        (void)buf_puts(out, "<path fill=\"none\" d=\"");
        for (size_t i = 0; i < n; i++)
                (void)buf_printf(out, "%c%.1f %.1f", i > 0 ? 'L' : 'M', at_x((double)i, 0, (double)n),
                                 at_y(v[i], low, high));
        (void)buf_printf(out, "\" stroke=\"%s\" stroke-width=\".8\"/>\n", colour);
}

void chart_time(struct buf *out, const char *title, const double *measured, const double *estimated, size_t n)
{
        static const char *const legend[] = { "measured", "estimated" };
        double low = 0, high = 1e-9;

        range_of(measured, n, &low, &high);
        range_of(estimated, n, &low, &high);
        begin(out, title);
        draw_axis(out, low, high, "W; rows in the order of time");
        draw_legend(out, legend, 2);
        draw_line(out, measured, n, low, high, colours[0]);
        draw_line(out, estimated, n, low, high, colours[1]);
        (void)buf_puts(out, "</svg>\n");
}
