// The version of Hocuspocus whose behaviour this is: what `onConfigure` tells, and what extensions compare with.
export const version = '4.7.0'
