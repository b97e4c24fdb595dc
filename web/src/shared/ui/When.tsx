/** Shows a moment: the clock time today, the date otherwise; the whole of it on hover. */

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const DATE = new Intl.DateTimeFormat(undefined, {
  day: "numeric",
  month: "short",
  year: "numeric",
});
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

export function When({ time }: { time: string }) {
  const moment = new Date(time);
  if (Number.isNaN(moment.getTime())) return null;
  const isToday = moment.toDateString() === new Date().toDateString();
  return (
    <time dateTime={time} title={FULL.format(moment)}>
      {isToday ? CLOCK.format(moment) : DATE.format(moment)}
    </time>
  );
}
